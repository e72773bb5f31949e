"""Train the model that ships, from nothing: `python -m jobs.research.pocket output=...`."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from jobs.cli.config import fail, parse
from jobs.cli.progress import duration_text
from jobs.cli.submitted import take_sigterm
from models import ModelFolder
from models.model_folder import CONFIG_FILE
from pipeline.common.options import option
from pipeline.storage.objects import absolute, is_local, read_bytes, write_bytes

USAGE = """
Train the small model that ships with the project: its corpus, its speech encoders, both phases, and the figures that
its model card states. Each step is a command of this project, printed as it starts; the same command goes on where the
last one ended, with any number of machines in between.

  pip install 'floatcast[corpus]'            and, on Debian: apt-get install libegl1 libgl1 libgl1-mesa-dri
  python -m jobs.research.pocket output=pocket                   the model that ships: 64 px, hours on two cores
  python -m jobs.research.pocket output=pocket size=128    goes on at twice the side: several times as long,
                                                             never tried
  python -m jobs.research.pocket output=pocket effort=0.1    a try

The model is in OUTPUT/motion/model, its figures are in OUTPUT/study, the time of each step in OUTPUT/pocket.json.

Options: --help, --plan (print the commands, and run none)
Exit codes: 0 trained; 2 configuration refused; 130 interrupted; else that of the step that failed.
"""

DONE, REFUSED, INTERRUPTED = 0, 2, 130

TIMES = "pocket.json"

BATCH = 16

SMALL = 64
"""Side at which the auto-encoder begins, px: a step costs a third of one at twice the side."""

HELD_OUT = ("split.validation=0.08", "split.test=0.12")
"""Of the people who speak: encoders and transformer hold the same ones out."""

Step = tuple[str, list[str]]
"""Name, and arguments behind `python -m`."""


@dataclass
class Pocket:
    """Configuration of `jobs.research.pocket`."""

    output: str = option("", "Folder for everything: corpus, data, encoders, checkpoints, model. Local.")
    size: int = option(64, "Side of the model's pictures, px: 64, 128 or 256; only 64 has been trained so far.")
    speakers: int = option(160, "People who speak: for the transformer, and for figures.", least=20)
    clips: int = option(4, "Videos of each, about 7 s long.", least=1)
    faces: int = option(640, "Other people, for the auto-encoder: two videos of each, about 3 s long.", least=20)
    variants: bool = option(False, "Train also, in fewer steps, what the paper compares, and write OUTPUT/variants.")
    effort: float = option(1.0, "Steps of training, in those of the model that ships.", least=0.001)
    workers: int = option(0, "Workers of training; 0 takes one for each GPU, and without one for each CPU.", least=0)
    seed: int = option(0, "Of corpus and training.", least=0, most=2**31)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(Pocket, USAGE, argv, ["--plan"])
    take_sigterm()
    if not job.output or not is_local(job.output):
        return fail("output: give a folder on this machine", REFUSED)
    if job.size not in (64, 128, 256):
        return fail(f"size: {job.size} is not one of 64, 128, 256", REFUSED)
    job.output = absolute(job.output)
    planned = steps(job)
    if "--plan" in flags:
        for _, arguments in planned:
            print("python -m " + " ".join(arguments))
        return DONE
    try:
        code = run_steps(job.output, planned)
    except KeyboardInterrupt:
        return fail("interrupted: the same command goes on where this one ended", INTERRUPTED)
    if code == DONE:
        _show(job.output)
    return code


def steps(job: Pocket) -> list[Step]:
    """The recipe.

    The auto-encoder learns from many people in few words, all else from few people in many: trained on the 128 people
    of the corpus who are not held out, it knew them by heart. The jaw's R2 was 0.8 on them and 0.2 on strangers, a
    smile's 0.9 and below 0. Its motion codes of the transformer's training people are those of strangers, too.
    """
    out = job.output
    corpus, data, encoders = f"{out}/corpus", f"{out}/data", f"{out}/encoders"
    faces, pairs = f"{out}/faces", f"{out}/pairs"
    picture = max(128, job.size)
    found: list[Step] = [
        (
            "corpus",
            [
                *(
                    "jobs.research.corpus",
                    f"output={corpus}",
                    f"corpus.speakers={job.speakers}",
                    f"corpus.clips={job.clips}",
                ),
                *(f"corpus.size={picture}", f"corpus.seed={job.seed}"),
            ],
        ),
        (
            "samples",
            [
                *("jobs.prepare", f"source={corpus}/corpus.csv", f"output={data}", f"clips.size={picture}"),
                *("clips.min_face=60", *HELD_OUT),
            ],
        ),
        (
            "faces",
            [
                *("jobs.research.corpus", f"output={faces}", f"corpus.speakers={job.faces}", "corpus.clips=2"),
                *("corpus.sentences=1", f"corpus.size={picture}", f"corpus.seed={job.seed + 1}"),
            ],
        ),
        (
            "pairs",
            [
                *("jobs.prepare", f"source={faces}/corpus.csv", f"output={pairs}", f"clips.size={picture}"),
                *("clips.min_face=60", "clips.min_seconds=1", "split.validation=0.05", "split.test=0"),
                "workers.unit_megabytes=3",
            ],
        ),
        (
            "encoders",
            [
                *(
                    "jobs.research.encoders",
                    f"corpus={corpus}",
                    f"output={encoders}",
                    f"content.steps={_share(job, 4_000)}",
                ),
                *("content.distorted=0.5", f"emotion.steps={_share(job, 800)}", "emotion.sharpness=6", *HELD_OUT),
            ],
        ),
    ]
    begin = _begin(job)
    side, model = SMALL, ""
    while side <= job.size:
        name = f"autoencoder-{side}"
        settings = _reconstruction(job, 10_000 if side == SMALL else 4_000, last=side == job.size)
        shared = ["jobs.train", "stage=autoencoder", f"data={pairs}", f"output={out}/{name}"]
        found.append((name, [*shared, *begin, *settings]))
        model = f"{out}/{name}/model"
        side *= 2
        begin = [f"model={model}", f"size={side}"]
    found += [
        ("latents", ["jobs.prepare", "stage=latents", f"output={data}", f"model={model}"]),
        (
            "motion",
            [
                *("jobs.train", "stage=motion", f"data={data}", f"output={out}/motion", f"model={model}"),
                *("name=pocket", *_motion(job, 15_000)),
            ],
        ),
        (
            "study",
            [
                "jobs.research.study",
                f"data={data}",
                f"corpus={corpus}",
                f"model={out}/motion/model",
                f"output={out}/study",
            ],
        ),
    ]
    return found + (_comparison(job, f"{out}/autoencoder-{job.size}/model") if job.variants else [])


VARIANTS = {
    "adaln": "conditioning=adaln",
    "cross-attention": "conditioning=cross_attention",
    "epsilon": "objective=epsilon",
    "x0": "objective=x0",
    "no-emotion": "emotion=none",
    "pose": "pose=head",
}
"""Name -> the one thing in which it differs; the first is FLOAT itself, in as few steps as the others."""

COMPONENTS = {"without-components": 0, "with-components": 1}
"""Name -> weight of the facial-component loss. Not the paper's 100, which is for features of VGG-19."""


def _comparison(job: Pocket, model: str) -> list[Step]:
    """The paper's ablations: transformers on the same motion codes, auto-encoders on the same pairs, equal steps."""
    out, found = job.output, []
    for name, variant in VARIANTS.items():
        shared = ["jobs.train", "stage=motion", f"data={out}/data", f"output={out}/{name}", f"model={model}"]
        found.append((name, [*shared, f"name={name}", f"variant.{variant}", *_motion(job, 1_500)]))
    for name, weight in COMPONENTS.items():
        shared = ["jobs.train", "stage=autoencoder", f"data={out}/pairs", f"output={out}/{name}"]
        settings = _reconstruction(job, 2_000, last=True, component=weight)
        found.append((name, [*shared, *_begin(job), f"name={name}", *settings]))
    models = ",".join(f"{out}/{name}/model" for name in (*VARIANTS, *COMPONENTS))
    study = [
        "jobs.research.study",
        "stage=ablations",
        f"data={out}/data",
        f"output={out}/variants",
        f"models=[{models}]",
    ]
    return [*found, ("variants", [*study, "ablations.nfe=[10]", "ablations.audio=[2]", "ablations.emotion=[1]"])]


def _share(job: Pocket, number: int) -> int:
    """Steps of training, by `effort`."""
    return max(1, round(number * job.effort))


def _begin(job: Pocket) -> list[str]:
    """A fresh model."""
    encoders = f"{job.output}/encoders"
    heard = [f"content_encoder={encoders}/content_encoder", f"emotion_encoder={encoders}/emotion_encoder"]
    return ["preset=pocket", f"size={SMALL}", "licence=Apache-2.0", *heard]


def _reconstruction(job: Pocket, number: int, last: bool, component: float = 0) -> list[str]:
    """Cheap losses, and what the corpus knows.

    The learning rate is that of layers whose weights have unit variance (`models.layers`): l1 was 0.063 after 300 steps
    of 0.01, and 0.077 after 600 of 0.001.
    """
    return [
        *(
            f"optimiser.steps={_share(job, number)}",
            f"optimiser.batch={BATCH}",
            "optimiser.learning_rate=0.01",
        ),
        *("optimiser.warmup=100", "optimiser.decay=0.4", f"optimiser.seed={job.seed}"),
        "optimiser.ema=0.998",
        *("reconstruction.perceptual=0", f"reconstruction.component={component}", "reconstruction.adversarial=0"),
        *("reconstruction.component_adversarial=0", "reconstruction.feature_style=0"),
        *("reconstruction.gradient=1", "reconstruction.mouth=1", "reconstruction.curves=1"),
        "reconstruction.across=0.5",
        *(
            "reconstruction.mask_bias=-1",
            f"reconstruction.unit_motion={str(last).lower()}",
            "reading.cache_gigabytes=6",
            *_workers(job),
        ),
        *("watch.log_every=100", "watch.validate_every=1000", "watch.save_every=1000", "watch.samples=128"),
    ]


def _workers(job: Pocket) -> list[str]:
    """A process for each CPU: its threads would wait for one another whenever another program takes a CPU.

    On two cores with other programs beside it, one process with two threads made 18 samples a second at 64 px, two with
    one thread each 43.
    """
    number = job.workers or torch.cuda.device_count() or os.cpu_count() or 1
    return [f"workers.number={min(number, BATCH)}", "workers.cpus=1"]


def _motion(job: Pocket, number: int) -> list[str]:
    """What shows the mood of a clip by itself is taken away often enough that the emotion has something to tell.

    Emotions are those of the table: what is heard is wrong in three of ten clips, and sharpened, wrong without doubt.
    What shows the mood is the reference motion, so all are of another clip, and the motion before the window. Without
    the latter too often, windows do not fit together, and jumps are what a viewer notices first.
    """
    return [
        *(f"optimiser.steps={_share(job, number)}", f"optimiser.batch={BATCH}"),
        *("optimiser.learning_rate=0.001", "optimiser.warmup=100", "optimiser.decay=0.5", "optimiser.ema=0.998"),
        *(f"optimiser.seed={job.seed}", "motion.labels=1", "motion.across=1", *_workers(job)),
        *("motion.drop_previous_motion=0.4", "motion.drop_previous_audio=0.15"),
        *("watch.log_every=100", "watch.validate_every=1000", "watch.save_every=1000"),
    ]


def run_steps(output: str, planned: list[Step]) -> int:
    """Run each step that is not done with these arguments, and keep how long it took; the exit code of the last one."""
    times = json.loads(read_bytes(f"{output}/{TIMES}") or b"{}")
    for number, (name, arguments) in enumerate(planned, 1):
        known = times.get(name, {})
        if known.get("arguments") == arguments and known.get("done"):
            print(f"[{number}/{len(planned)}] {name}: done before, in {duration_text(known['seconds'])}", flush=True)
            continue
        print(f"\n[{number}/{len(planned)}] {name}: python -m {' '.join(arguments)}", flush=True)
        before = known.get("seconds", 0.0) if known.get("arguments") == arguments else 0.0
        start = time.monotonic()
        code = _command(arguments)
        taken = before + time.monotonic() - start
        times[name] = {"arguments": arguments, "seconds": round(taken, 1), "done": code == 0}
        write_bytes(json.dumps(times, indent=1).encode(), f"{output}/{TIMES}")
        if code:
            return fail(f"{name} ended with {code}: see above; the same command goes on from here", code)
    return DONE


def _show(output: str) -> None:
    times = json.loads(read_bytes(f"{output}/{TIMES}") or b"{}")
    model = ModelFolder.open(f"{output}/motion/model")
    print(f"\n{'time':>11}  {duration_text(sum(one['seconds'] for one in times.values()))}, all steps together")
    print(f"{'model':>11}  {model.path} (hash {model.hash[:12]}, {_megabytes(model):.1f} MB)")
    print(f"{'next':>11}  python -m jobs.render manifest=jobs/demo/manifest.jsonl output=out model={model.path}")


def _command(arguments: list[str]) -> int:
    """Runs it; an interruption is passed on, and waited for, so that it can save what it has."""
    process = subprocess.Popen([sys.executable, "-m", *arguments])
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise


def _megabytes(model: ModelFolder) -> float:
    files = [*model.files, CONFIG_FILE]
    return sum((model.path / name).stat().st_size for name in files) / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
