"""Small speech encoders, trained on the generated corpus: what `jobs.encoders` is made of."""
