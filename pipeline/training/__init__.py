"""Training and fine-tuning: what `jobs.train` is made of."""
