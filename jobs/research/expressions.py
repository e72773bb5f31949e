"""Measure what emotions change in the landmarks of a face: `python -m jobs.research.expressions`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended
from pipeline.api.model import Model
from pipeline.common.extras import check_extra
from pipeline.common.options import option
from pipeline.common.progress import Progress
from pipeline.face.detector import FaceDetector
from pipeline.measure.emotion_span import EmotionSpans
from pipeline.research.expressions import (
    FIRST_SEED,
    ExpressionSettings,
    Render,
    compare,
    compared_table,
    draw_expressions,
    fit_expressions,
    seen_spans,
    seen_table,
)
from pipeline.run.exit_codes import DONE
from pipeline.storage.model_cache import checked_model
from pipeline.storage.objects import write_bytes

USAGE = f"""
Draw generated people who say the same words with each emotion, measure what the emotions change in their landmarks, and
print how surely the metric emotion_span tells spans that show their emotion from spans that do not. With a model, also
render clips of other people with three spans each, and say which emotions are seen in them.

  pip install 'floatcast[corpus]'   and, on Debian: apt-get install libegl1 libgl1 libgl1-mesa-dri
  python -m jobs.research.expressions output=expressions.json
  python -m jobs.research.expressions expressions.model=pocket

Options: --help
{CODES}
"""

LIMITS = (0.1, 0.2, 0.25, 0.3, 0.4)


@dataclass
class ExpressionJob:
    """Configuration of `jobs.research.expressions`."""

    seed: int = option(FIRST_SEED, "Seed of the first person.", least=0, most=2**30)
    output: str = option("", "File for the table that quality control reads; empty writes none.")
    expressions: ExpressionSettings = field(default_factory=ExpressionSettings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(ExpressionJob, USAGE, argv)
    return ended(lambda: _measure(job), "interrupted")


def _measure(job: ExpressionJob) -> int:
    check_extra("corpus", "generated people")
    settings, detector = job.expressions, FaceDetector()
    drawn = []
    with Progress(settings.people, measure="people", things="people") as progress:
        for seed in range(job.seed, job.seed + settings.people):
            drawn.append(draw_expressions(seed, settings, detector))
            progress.add({"status": "measured"})
    features = np.stack(drawn)
    print(compared_table(*compare(features), LIMITS))
    known = fit_expressions(features.reshape(-1, *features.shape[2:]))
    if job.output:
        about = {"made": f"jobs.research.expressions seed={job.seed} expressions.people={settings.people}"}
        write_bytes(known.as_json(about).encode(), job.output)
    if settings.model:
        render, seen = renderer(settings.model, settings.scale), []
        with Progress(settings.clips, measure="clips", things="clips") as progress:
            for seed in range(job.seed + settings.people, job.seed + settings.people + settings.clips):
                seen += seen_spans(render, seed, known, settings.scale, detector)
                progress.add({"status": "measured"})
        print(seen_table(seen, EmotionSpans.METRICS[0].rules[0].limit))
    return DONE


def renderer(model: str, scale: float) -> Render:
    """Frames of a model."""
    made = Model(checked_model(model), "cpu")

    def render(
        portrait: np.ndarray, wave: np.ndarray, emotion: Mapping[str, float] | Sequence[Mapping[str, Any]], seed: int
    ) -> np.ndarray:
        face, speech = made.encode_portrait(portrait), made.speech_features(wave)
        return made.decode(face, made.sample_motion(face, speech, emotion=emotion, seed=seed, e_cfg_scale=scale))

    return render


if __name__ == "__main__":
    raise SystemExit(main())
