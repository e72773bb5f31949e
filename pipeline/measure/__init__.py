"""Metrics of a finished video.

One class per check; `metrics` lists them all. What to think of them is `pipeline.qc`'s.
"""
