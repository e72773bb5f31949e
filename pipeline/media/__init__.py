"""Pictures, sound and video files: reading, writing, marking and signing."""
