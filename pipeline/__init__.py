"""From a manifest to delivered clips: plain classes and functions. Only `graph` knows Ray Data."""

__version__ = "0.2.0"
