"""The decoder and the vector field, optimised for speed, and their compilation; results equal the plain modules'."""
