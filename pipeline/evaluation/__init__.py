"""Evaluation: how near generated videos come to real ones, ours or any other system's. Runs without Ray.

`stage` measures single videos and pairs on workers; `systems` puts these together on the driver: means, distances
between distributions (`frechet`), and the distance between two halves of the real videos beside each. README.md lists
every figure.
"""
