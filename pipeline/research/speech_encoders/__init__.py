"""Small speech encoders, trained on the generated corpus: what `jobs.research.encoders` is made of."""
