"""Small speech encoders, trained on the generated corpus, as used by `jobs.research.encoders`."""
