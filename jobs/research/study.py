"""Measure a model on the generated corpus: `python -m jobs.research.study [key=value ...]`."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended, fail
from models import ModelFolder
from pipeline.common.options import check_ranges, option
from pipeline.common.progress import Progress, duration_text
from pipeline.research.study.ablations import run_ablations, write_ablations
from pipeline.research.study.ablations import screen_lines as ablation_lines
from pipeline.research.study.report import screen_lines, write_report
from pipeline.research.study.run import Findings, Study
from pipeline.research.study.settings import (
    PARTS,
    AblationSettings,
    EmotionSettings,
    FrameSettings,
    ReaderSettings,
    SpeechSettings,
    check_parts,
    check_splits,
)
from pipeline.run.exit_codes import DONE, REFUSED
from pipeline.storage.model_cache import POCKET, local_model
from pipeline.storage.objects import check_writable
from pipeline.storage.uris import absolute

USAGE = f"""
Measure a model on held-out speakers of the generated corpus, against the known ground truth.

  python -m jobs.research.corpus output=corpus
  python -m jobs.prepare source=corpus/corpus.csv output=data
  python -m jobs.research.study data=data model=models/mine output=study
  python -m jobs.research.study data=data model=phase1/model output=study "parts=[reconstruction,probe]"
  python -m jobs.research.study stage=ablations data=data output=study \\
      "models=[models/mine, models/cross, models/epsilon]"

stage=figures writes figures.json and study.html to the output folder, and prints the requirements for a model that
ships next to what this model achieves. A requirement that is not met is not an error. pipeline/research/study/README.md
explains how each metric is measured.
stage=ablations samples motion with several settings and with several models. It needs latents/ (jobs.prepare
stage=latents) and writes ablations.json and ablations.html.
The job runs in this process, without Ray, and uses a GPU if PyTorch finds one.
Options: --help
{CODES}
"""


@dataclass
class StudyJob:
    """Configuration of `jobs.research.study`."""

    data: str = option("", "Output folder of jobs.prepare, prepared from a generated corpus, local or s3://.")
    stage: str = option(
        "figures",
        "figures measures one model; ablations compares several models and settings.",
        choices=("figures", "ablations"),
    )
    model: str = option("", "For stage=figures: a model folder, local or s3://, or pocket for the bundled model.")
    models: list[str] = option([], "For stage=ablations: the model folders; the settings are varied for the first one.")
    corpus: str = option(
        "",
        "Output folder of jobs.research.corpus, used to count how many held-out sentences are new; empty skips this.",
    )
    output: str = option("study", "Folder for figures.json, study.html and the reader network, local or s3://.")
    parts: list[str] = option(list(PARTS), f"Parts to measure: {', '.join(PARTS)}.")
    splits: list[str] = option(["test", "validation"], "Held-out splits to measure on: test, validation or both.")
    seed: int = option(0, "Seed of all random choices, including the noise of the sampled motion.", least=0, most=2**31)
    frames: FrameSettings = field(default_factory=FrameSettings)
    speech: SpeechSettings = field(default_factory=SpeechSettings)
    reader: ReaderSettings = field(default_factory=ReaderSettings)
    emotion: EmotionSettings = field(default_factory=EmotionSettings)
    ablations: AblationSettings = field(default_factory=AblationSettings)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_parts(self.parts)
        check_splits(self.splits)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(StudyJob, USAGE, argv)
    for key in ("data", "model" if job.stage == "figures" else "models", "output"):
        if not getattr(job, key):
            return fail(f"{key}: give a value; --help lists the keys", REFUSED)
    job.data, job.output = absolute(job.data), absolute(job.output)
    return ended(
        lambda: _study(job) if job.stage == "figures" else _ablations(job),
        "interrupted: no results were written, but a trained reader network is kept",
    )


def _study(job: StudyJob) -> int:
    check_writable(job.output)
    start = time.monotonic()
    folder = _open(job.model)
    study = Study(
        folder,
        job.data,
        job.output,
        splits=job.splits,
        seed=job.seed,
        frames=job.frames,
        speech=job.speech,
        reader=job.reader,
        emotion=job.emotion,
        watch=shown,
    )
    print(f"{job.data}: {len(study.train)} clips of training speakers, {len(study.held_out)} clips of {job.splits}")
    found = Findings()
    if job.corpus:
        study.texts(absolute(job.corpus), found)
    parts = {
        "reconstruction": study.reconstruction,
        "probe": study.measure_probe,
        "speech": study.measure_speech,
        "emotion": study.measure_emotion,
    }
    for part in PARTS:
        if part in job.parts:
            parts[part](found)
    metrics, page = write_report(found, folder, job.output, {"settings": dataclasses.asdict(job)})
    print("\n".join(screen_lines(found.metrics, found.notes)))
    print(f"\n{'time':>11}  {duration_text(time.monotonic() - start)}")
    print(f"{'metrics':>11}  {metrics}\n{'page':>11}  {page}")
    return DONE


def _ablations(job: StudyJob) -> int:
    check_writable(job.output)
    start = time.monotonic()
    folders = [_open(name) for name in job.models]
    lines, notes = run_ablations(folders, job.data, job.splits, job.ablations, job.seed, shown)
    table, page = write_ablations(lines, notes, job.output, {"settings": dataclasses.asdict(job)})
    print("\n".join([*ablation_lines(lines), *notes]))
    print(f"\n{'time':>11}  {duration_text(time.monotonic() - start)}")
    print(f"{'table':>11}  {table}\n{'page':>11}  {page}")
    return DONE


def _open(name: str) -> ModelFolder:
    """Open a model and print what it is."""
    folder = local_model(name if name == POCKET else absolute(name))
    print(f"model {folder.name} ({folder.hash[:12]}), {folder.config.image_size} px", flush=True)
    if not folder.trained:
        print("NOTE: this model is UNTRAINED, so its metrics are those of noise")
    return folder


def shown(items: Sequence[Any], what: str) -> Iterator[Any]:
    """Yield items one by one, with progress and an ETA on the screen."""
    print(f"{len(items)} {what}", flush=True)
    with Progress(len(items), measure="of them", things=what) as progress:
        for item in items:
            yield item
            progress.add({"status": "done"})


if __name__ == "__main__":
    raise SystemExit(main())
