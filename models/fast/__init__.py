"""The decoder and the vector field arranged for speed, and their compilation; same results as the plain modules."""
