"""Quality control: a delivered file is decoded again, measured and judged. Runs without Ray.

The classes of `pipeline.measure` measure. Their `METRICS` say what each metric means, and from which value a person
should look at the clip. `judge` runs all of them on one file, `verdict` turns the values into pass, review or fail, and
`retakes` chooses between the takes of a clip.
"""
