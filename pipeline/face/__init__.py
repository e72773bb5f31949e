"""Faces in pictures: where they are, how they are turned, and how a portrait is cropped."""
