"""Faces in images: finding them, measuring their pose, and cropping portraits."""
