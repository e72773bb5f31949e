"""The decoder and the vector field, optimised for speed, and their compilation; the results equal the plain
modules'.
"""
