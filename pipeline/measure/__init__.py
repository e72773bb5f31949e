"""Metrics of a finished video.

There is one class per check, and `metrics` lists them all. `pipeline.qc` decides what to think of the values.
"""
