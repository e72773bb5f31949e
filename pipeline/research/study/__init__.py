"""Metrics of a trained model against the ground truth of the generated corpus. Runs without Ray."""
