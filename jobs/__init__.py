"""What a person runs: `python -m jobs.render`, `jobs.prepare`, `jobs.train`, `jobs.evaluate` ...; all have --help."""
