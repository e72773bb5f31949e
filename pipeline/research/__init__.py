"""What creates and examines the bundled model. No other package imports it, and it is not in the wheel."""
