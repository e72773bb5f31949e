"""From a manifest to delivered clips, in packages that import only those below them (README.md has the order).

Only `cluster` knows Ray; all other packages are plain classes and functions.
"""

__version__ = "0.2.0"
