"""The commands of the project, such as `python -m jobs.render`; all have --help."""
