"""What a person runs: `python -m jobs.render`, `python -m jobs.convert`."""
