"""Figures of a trained model against the known truth of the generated corpus. Runs without Ray."""
