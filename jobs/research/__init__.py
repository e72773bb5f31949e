"""Jobs that make and examine the bundled model. They run from a checkout; the wheel leaves them out."""
