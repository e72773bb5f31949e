"""The manifest: its rows as clips, and whose clips need a consent."""
