"""The measurements of `jobs.benchmark`."""
