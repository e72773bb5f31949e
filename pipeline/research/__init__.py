"""What makes and examines the bundled model. No room below imports it, and it is not in the wheel."""
