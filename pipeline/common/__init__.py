"""What every package may use: errors, options, limits, collections on disk. Imports none of the other packages."""
