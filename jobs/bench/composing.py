"""Full frames: how much of the decoder's speed it costs to put its frames back into a picture of 1920 x 1080."""

from collections.abc import Iterable
from functools import partial

import numpy as np
import torch

from jobs.bench.counting import seconds
from jobs.bench.engines import engine
from jobs.bench.job import Figures, say
from jobs.bench.subject import Subject
from pipeline.face.full_frame import FullFrame
from pipeline.media.pixel_layout import YUV420P
from pipeline.render.compose import Composer, composed
from pipeline.render.picture import picture_of

WIDTH, HEIGHT, SQUARE = 1920, 1080, 720.0
"""The picture, and the side of the animated square: a head that fills half of the picture's height."""
MOST_LOST = 0.15
"""Largest share of the decoder's throughput that may be lost."""


@torch.no_grad()
def measure_composing(subject: Subject) -> Figures:
    """Frames per second of the decoder, of composition, and of composition with a held rim; what these two take."""
    made = engine(subject)
    portrait = made.portrait(subject.pixels)
    motion = portrait.motion.expand(made.frame_batch, -1)  # the decoder takes as long for any other
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    picture = picture_of(FullFrame(noise, ((WIDTH - SQUARE) / 2 + 0.3, (HEIGHT - SQUARE) / 2, SQUARE)), YUV420P)
    (rest,) = made.decoded(portrait, portrait.motion)
    figures: Figures = {"picture": [WIDTH, HEIGHT], "square": SQUARE}

    batches = list(made.decoded(portrait, motion))
    alone = figures["decode_fps"] = len(motion) / seconds(lambda: _drain(made.decoded(portrait, motion)), 2)
    for name, share in (("composed", 0.0), ("held", 1.0)):
        composer = Composer(picture, subject.pixels, rest, hold_rim=share)
        # On its own, in more turns: within the decoder's time, which other work on the machine changes, it is lost.
        spent = seconds(partial(_compose, composer, batches), 2 * subject.sizes.times)
        lost = spent / (spent + len(motion) / alone)
        figures[f"{name}_fps"], figures[f"{name}_loss"] = len(motion) / spent, lost
        say(f"  {name}: {len(motion) / spent:.1f} frames/s beside {alone:.2f} of the decoder, {lost:.1%} lost")
        subject.report(figures)
    return figures | {"within_limit": figures["held_loss"] <= MOST_LOST}


def _compose(composer: Composer, batches: list[torch.Tensor]) -> None:
    _drain(composed(composer, batches))


def _drain(batches: Iterable[torch.Tensor]) -> None:
    for _ in batches:
        pass
