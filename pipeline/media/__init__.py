"""Image, audio and video files: reading, writing, marking and signing."""
