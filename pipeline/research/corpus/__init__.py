"""Generated talking heads: what they say, how they sound and how they move, from seeds. Nothing here was recorded."""
