"""Quality control: a delivered file is decoded again, measured and judged. Runs without Ray.

One class per check (`container`, `picture`, `sound`, `face`, `speech`, `seams`, `motion`, `identity`, `syncnet`)
measures; its `FIGURES` say what its columns mean and from which value on a person must look. `judge` puts them
together, `verdict` turns figures into pass, review or fail, `takes` chooses between the takes of a clip.
"""
