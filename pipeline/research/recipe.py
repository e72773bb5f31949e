"""The recipe of the bundled model: the commands of this project that train it from scratch, in order."""

import os
from dataclasses import dataclass, replace

import torch

from pipeline.common.options import option
from pipeline.research.recipe_autoencoder import BATCH, LADDER, SMALL, Rung, reconstruction

HELD_OUT = ("split.validation=0.08", "split.test=0.12")
"""Held-out speakers; the encoders and the transformer hold out the same ones."""

Step = tuple[str, list[str]]
"""Name, and the arguments after `python -m`."""


@dataclass
class Recipe:
    """What the bundled model is trained on, and for how long."""

    output: str = option("", "Local folder for everything: corpus, data, encoders, checkpoints and model.")
    size: int = option(64, "Side length of the model's frames, px: 64, 128 or 256; above 64 the model grows.")
    speakers: int = option(160, "Number of speakers for training the transformer and for measuring.", least=20)
    clips: int = option(4, "Number of videos per speaker, about 7 s each.", least=1)
    faces: int = option(
        2_000, "Number of further people for the auto-encoder, with two videos of `stills` frames each.", least=20
    )
    stills: int = option(
        25, "Number of frames per video of these people, chosen to differ; 0 takes whole videos of about 3 s.", least=0
    )
    begin: str = option(
        "",
        "Model folder whose 64 px auto-encoder is trained further, local, s3:// or pocket; empty trains a new one.",
    )
    natural: float = option(
        0.6,
        "Share of the speakers with a natural voice (extra voices), in the languages that have any; 0 uses espeak-ng "
        "alone.",
        least=0,
        most=1,
    )
    variants: bool = option(
        False, "Also train the variants that the paper compares, with fewer steps, and write them to OUTPUT/variants."
    )
    effort: float = option(1.0, "Number of training steps, relative to the bundled model.", least=0.001)
    workers: int = option(
        0, "Number of training workers; 0 uses one per GPU, or one per CPU if there are no GPUs.", least=0
    )
    seed: int = option(0, "Seed of the corpus and of training.", least=0, most=2**31)


def steps(recipe: Recipe) -> list[Step]:
    """The commands, in order.

    The auto-encoder learns from many people with few sentences each, and everything else from few people with many
    sentences. When the auto-encoder was trained on the 128 speakers of the corpus who are not held out, it memorised
    them: the R2 of the jaw was 0.8 for them and 0.2 for strangers, that of a smile 0.9 and below 0. Now the
    transformer's training speakers are also strangers to the auto-encoder that computes their motion codes.
    """
    out = recipe.output
    corpus, data, encoders = f"{out}/corpus", f"{out}/data", f"{out}/encoders"
    faces, pairs, speech = f"{out}/faces", f"{out}/pairs", f"{out}/speech"
    picture = max(128, recipe.size)
    voices = [f"corpus.natural={recipe.natural}"]
    found: list[Step] = [
        (
            "corpus",
            [
                *("jobs.research.corpus", f"output={corpus}", f"corpus.speakers={recipe.speakers}"),
                *(f"corpus.clips={recipe.clips}", f"corpus.size={picture}", f"corpus.seed={recipe.seed}", *voices),
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
                *("jobs.research.corpus", f"output={faces}", f"corpus.speakers={recipe.faces}", "corpus.clips=2"),
                *("corpus.sentences=1", f"corpus.stills={recipe.stills}"),
                *(f"corpus.size={picture}", f"corpus.seed={recipe.seed + 1}"),
            ],
        ),
        (
            "pairs",
            [
                *("jobs.prepare", f"source={faces}/corpus.csv", f"output={pairs}", f"clips.size={picture}"),
                *("clips.min_face=60", "split.validation=0.05", "split.test=0", "workers.unit_megabytes=3"),
                # Stills are too short for the usual limit, and too short to measure an offset.
                *(("clips.min_seconds=0.4", "clips.max_av_offset_ms=0") if recipe.stills else ["clips.min_seconds=1"]),
            ],
        ),
        (
            "speech",
            [
                *("jobs.research.corpus", f"output={speech}", f"corpus.speakers={2 * recipe.speakers}"),
                *(f"corpus.clips={recipe.clips}", "corpus.pictures=false", "corpus.shuffled=0.5"),
                *(f"corpus.seed={recipe.seed + 2}", *voices),
            ],
        ),
        (
            "encoders",
            [
                *("jobs.research.encoders", f"corpus={corpus}", f"more=[{speech}]", f"output={encoders}"),
                *(f"content.steps={_share(recipe, 6_000)}", "content.distorted=0.7", "content.tract=0.15"),
                *("content.masks=0.5", *(["content.natural=0.5"] if recipe.natural else [])),
                *(f"emotion.steps={_share(recipe, 800)}", "emotion.sharpness=6", *HELD_OUT),
            ],
        ),
    ]
    begin, model = _begin(recipe), ""
    for side in [side for side in LADDER if side <= recipe.size]:
        name = f"autoencoder-{side}"
        shared = ["jobs.train", "stage=autoencoder", f"data={pairs}", f"output={out}/{name}"]
        found.append((name, [*shared, *begin, *_reconstruction(recipe, LADDER[side], grown=side > SMALL)]))
        model = f"{out}/{name}/model"
        begin = [f"model={model}", f"size={2 * side}"]
    found += [
        ("latents", ["jobs.prepare", "stage=latents", f"output={data}", f"model={model}"]),
        (
            "motion",
            [
                *("jobs.train", "stage=motion", f"data={data}", f"output={out}/motion", f"model={model}"),
                *("name=pocket", *_motion(recipe, 15_000)),
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
    return found + (_comparison(recipe, f"{out}/autoencoder-{recipe.size}/model") if recipe.variants else [])


VARIANTS = {
    "adaln": "conditioning=adaln",
    "cross-attention": "conditioning=cross_attention",
    "epsilon": "objective=epsilon",
    "x0": "objective=x0",
    "no-emotion": "emotion=none",
    "pose": "pose=head",
}
"""Name -> its only difference; the first is FLOAT itself, with as few steps as the others."""

COMPONENTS = {"without-components": 0, "with-components": 1}
"""Name -> weight of the facial-component loss. This is not the paper's 100, which is for features of VGG-19."""


def _comparison(recipe: Recipe, model: str) -> list[Step]:
    """The paper's ablations: transformers on the same motion codes, auto-encoders on the same pairs, with equal
    steps.
    """
    out, found = recipe.output, []
    for name, variant in VARIANTS.items():
        shared = ["jobs.train", "stage=motion", f"data={out}/data", f"output={out}/{name}", f"model={model}"]
        found.append((name, [*shared, f"name={name}", f"variant.{variant}", *_motion(recipe, 1_500)]))
    for name, weight in COMPONENTS.items():
        shared = ["jobs.train", "stage=autoencoder", f"data={out}/pairs", f"output={out}/{name}"]
        settings = _reconstruction(recipe, replace(LADDER[SMALL], steps=2_000), component=weight)
        found.append((name, [*shared, *_new(recipe), f"name={name}", *settings]))
    models = ",".join(f"{out}/{name}/model" for name in (*VARIANTS, *COMPONENTS))
    study = [
        "jobs.research.study",
        "stage=ablations",
        f"data={out}/data",
        f"output={out}/variants",
        f"models=[{models}]",
    ]
    return [*found, ("variants", [*study, "ablations.nfe=[10]", "ablations.audio=[2]", "ablations.emotion=[1]"])]


def _share(recipe: Recipe, number: int) -> int:
    """Number of training steps, scaled by `effort`."""
    return max(1, round(number * recipe.effort))


def _begin(recipe: Recipe) -> list[str]:
    """Arguments for the model that the first side length begins with."""
    if not recipe.begin:
        return _new(recipe)
    return [f"model={recipe.begin}", *_encoders(recipe)]


def _new(recipe: Recipe) -> list[str]:
    """Arguments for a new model."""
    return ["preset=pocket", f"size={SMALL}", "licence=Apache-2.0", *_encoders(recipe)]


def _encoders(recipe: Recipe) -> list[str]:
    encoders = f"{recipe.output}/encoders"
    return [f"content_encoder={encoders}/content_encoder", f"emotion_encoder={encoders}/emotion_encoder"]


def _workers(recipe: Recipe) -> list[str]:
    """One process per CPU, because threads of one process would wait for each other whenever another program takes a
    CPU.

    On two cores shared with other programs, one process with two threads processed 18 samples per second at 64 px, and
    two processes with one thread each processed 43.
    """
    number = recipe.workers or torch.cuda.device_count() or os.cpu_count() or 1
    return [f"workers.number={min(number, BATCH)}", "workers.cpus=1"]


def _reconstruction(recipe: Recipe, rung: Rung, grown: bool = False, component: float = 0) -> list[str]:
    number = _share(recipe, rung.steps)
    return [*reconstruction(rung, number, recipe.seed, grown=grown, component=component), *_workers(recipe)]


def _motion(recipe: Recipe, number: int) -> list[str]:
    """Conditions that reveal the mood of a clip are dropped often enough for the emotion to carry information.

    Emotions are the table's labels, because predicted ones are wrong in three of ten clips and, once sharpened, wrong
    with confidence. The mood is revealed by the reference motion, so all references are from another clip, and by the
    motion before the window. If the latter is missing too often, windows do not fit together, and jumps are what a
    viewer notices first.
    """
    return [
        *(f"optimiser.steps={_share(recipe, number)}", f"optimiser.batch={BATCH}"),
        *("optimiser.learning_rate=0.001", "optimiser.warmup=100", "optimiser.decay=0.5", "optimiser.ema=0.998"),
        *(f"optimiser.seed={recipe.seed}", "motion.labels=1", "motion.across=1", *_workers(recipe)),
        *("motion.drop_previous_motion=0.4", "motion.drop_previous_audio=0.15"),
        *("watch.log_every=100", "watch.validate_every=1000", "watch.save_every=1000"),
    ]
