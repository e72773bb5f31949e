"""Measure by which limit dlib's face distance tells people apart: `python -m jobs.research.face_distance`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended
from pipeline.api.model import Model
from pipeline.common.extras import check_extra
from pipeline.common.options import option
from pipeline.common.progress import Progress
from pipeline.research.face_distance import (
    FIRST_SEED,
    FaceDistanceSettings,
    Person,
    Render,
    compare,
    draw_person,
    table,
)
from pipeline.run.exit_codes import DONE
from pipeline.storage.model_cache import checked_model

USAGE = f"""
Draw generated people in several poses and expressions, and print how far dlib's face embedding puts pictures of the
same person and of different people apart, with the rates of false alarms and misses of several limits. The table in
pipeline/qc/README.md was made in this way.

  pip install 'floatcast[corpus,identity]'   and, on Debian: apt-get install libegl1 libgl1 libgl1-mesa-dri
  python -m jobs.research.face_distance
  python -m jobs.research.face_distance people.people=100 people.model=pocket

Options: --help
{CODES}
"""


@dataclass
class FaceDistanceJob:
    """Configuration of `jobs.research.face_distance`."""

    seed: int = option(FIRST_SEED, "Seed of the first person.", least=0, most=2**31)
    people: FaceDistanceSettings = field(default_factory=FaceDistanceSettings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(FaceDistanceJob, USAGE, argv)
    return ended(lambda: _measure(job), "interrupted")


def _measure(job: FaceDistanceJob) -> int:
    check_extra("corpus", "generated people")
    check_extra("identity", "distances between faces")
    render = _renderer(Model(checked_model(job.people.model), "cpu")) if job.people.model else None
    found = compare(_drawn(job, render), job.people)
    print(table(found, job.people.limits))
    for one in found:
        if one.missed:
            print(f"{one.name}: no face in {one.missed} pictures")
    return DONE


def _renderer(model: Model) -> Render:
    def render(portrait: np.ndarray, sound: np.ndarray, seed: int) -> np.ndarray:
        encoded = model.encode_portrait(portrait)
        return model.decode(encoded, model.sample_motion(encoded, model.speech_features(sound), seed=seed))

    return render


def _drawn(job: FaceDistanceJob, render: Render | None) -> Iterator[Person]:
    with Progress(job.people.people, measure="people", things="people") as progress:
        for seed in range(job.seed, job.seed + job.people.people):
            yield draw_person(seed, job.people.frames, render)
            progress.add({"status": "compared"})


if __name__ == "__main__":
    raise SystemExit(main())
