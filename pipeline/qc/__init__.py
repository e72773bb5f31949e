"""Quality control: a delivered file is decoded again, measured and judged. Runs without Ray.

The classes of `pipeline.measure` measure; their `METRICS` say what each metric means and from which value on a person
must look. `judge` runs all of them on one file, `verdict` turns their values into pass, review or fail, and `retakes`
chooses between the takes of a clip.
"""
