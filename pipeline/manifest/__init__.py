"""The manifest: its rows as clips, and the consents that clips need."""
