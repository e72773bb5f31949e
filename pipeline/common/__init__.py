"""What every room may use: errors, options, limits, collections on disk. Imports nothing of the other rooms."""
