"""From a manifest to delivered clips, in rooms that each import only those below them (README.md has the order).

`cluster` is the room that knows Ray; all others are plain classes and functions.
"""

__version__ = "0.2.0"
