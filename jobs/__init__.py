"""The commands of the project: `python -m jobs.render`, `jobs.prepare`, `jobs.train`, `jobs.evaluate` and others; all
have --help.
"""
