"""From a manifest to delivered clips: plain classes and functions. Only `graph` knows Ray Data."""
