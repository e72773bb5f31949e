"""Training and fine-tuning, as used by `jobs.train`."""
