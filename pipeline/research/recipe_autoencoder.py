"""How the bundled model's auto-encoder is trained: the arguments of each side length."""

from dataclasses import dataclass

import torch

from models.fast.compiled import compile_problem
from pipeline.render.speech_precision import has_bfloat16
from pipeline.research.corpus.units import CURVES

BATCH = 16

SMALL = 64
"""Side length at which the whole auto-encoder is trained, px: a step costs a third of one at twice the side."""


@dataclass(frozen=True)
class Rung:
    """How the auto-encoder is trained at one side length."""

    steps: int
    learning_rate: float
    save_every: int
    """Steps between two checkpoints: about 3 minutes on two cores."""


LADDER = {SMALL: Rung(10_000, 0.01, 500), 128: Rung(3_000, 0.003, 500), 256: Rung(4_000, 0.003, 200)}
"""Side length -> its training. Beyond `SMALL` the decoder alone learns: the motion latents stay what they are, a grown
encoder passes on the colours of the image and nothing else that could be learnt (`models.learning.grow`), and a step
costs half.
"""

CURVE_WEIGHTS = [20 if name in ("yaw", "pitch", "roll", "x", "y", "size") else 1 for name in CURVES]
"""Factors on the errors of known values: the pose moves all edges of a head, and each unit a part of its face."""


def reconstruction(rung: Rung, number: int, seed: int, *, grown: bool = False, component: float = 0) -> list[str]:
    """Arguments of so many steps of `jobs.train stage=autoencoder`.

    The losses are cheap and, where the latents are formed, use the ground truth of the corpus. The learning rate is for
    layers whose weights have unit variance (`models.layers`): l1 was 0.063 after 300 steps at 0.01, and 0.077 after 600
    at 0.001. For a grown model, which begins trained, 120 steps at 0.003 gave what 160 gave at 0.006, and 0.15 dB more
    in the mouth. A weight of 5 for the texture raised the gradient energy of 120 steps at 128 px from 0.69 (a weight of
    1) to 0.75 (mouth: 0.59 to 0.65) for 0.1 dB of PSNR, none of it in the mouth. The level of the error, which asks for
    less detail where it is uncertain, gave 0.15 dB in 200 steps with a weight of 0.012, and took 0.02 of the gradient
    energy.

    A model of 64 px lacked most what its encoder told of the head: with the best motion coefficients for each frame,
    found by descent, its PSNR was 1.6 dB higher. So known changes of the pose count much. 330 steps (learning rate
    0.004) gave 0.21 dB with `CURVE_WEIGHTS`, 0.06 dB with the values themselves instead of their changes, all alike,
    and 0.06 and 0.08 dB with weights of 3 for all, or of 100 for the pose.
    """
    latents = ["reconstruction.decoder_only=true"]
    if not grown:
        latents = [
            *("reconstruction.curve_changes=1", f"reconstruction.curve_weights=[{','.join(map(str, CURVE_WEIGHTS))}]"),
            *("reconstruction.mask_bias=-1", "reconstruction.unit_motion=true"),
        ]
    return [
        *(_faster() if grown else []),
        *(
            f"optimiser.steps={number}",
            f"optimiser.batch={BATCH}",
            f"optimiser.learning_rate={rung.learning_rate}",
        ),
        *("optimiser.warmup=100", "optimiser.decay=0.4", f"optimiser.seed={seed}"),
        "optimiser.ema=0.998",
        *("reconstruction.perceptual=0", f"reconstruction.component={component}", "reconstruction.adversarial=0"),
        *("reconstruction.component_adversarial=0", "reconstruction.feature_style=0"),
        *("reconstruction.gradient=1", "reconstruction.mouth=1", "reconstruction.across=0.5", *latents),
        *("reconstruction.texture=8", "reconstruction.level=0.02"),
        "reading.cache_gigabytes=6",
        *("watch.log_every=100", "watch.validate_every=1000", f"watch.save_every={rung.save_every}"),
        "watch.samples=128",
    ]


def _faster() -> list[str]:
    """What makes a step of a grown model faster on this machine.

    At 256 px, one core of an AMD EPYC (AVX512-BF16) took 10.3 pairs a second, compiled 12.6, in bfloat16 11.3, and with
    both 16.4. At 64 px neither helped: 22.8, 22.2, 24.8 and 24.8. On GPUs `optimiser.dtype=auto` takes bfloat16.
    """
    reduced = not torch.cuda.is_available() and has_bfloat16("cpu")
    compiled = not compile_problem()
    return [*(["optimiser.dtype=bfloat16"] if reduced else []), *(["optimiser.compile=true"] if compiled else [])]
