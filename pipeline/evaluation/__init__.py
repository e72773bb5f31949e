"""Evaluation: how close generated videos are to real ones, for our system or any other. Runs without Ray.

`stage` measures single videos and pairs on workers. `systems` combines the results on the driver: means, distances
between distributions (`frechet`), and with each distance that between two halves of the real videos. README.md lists
every metric.
"""
