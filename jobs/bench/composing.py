"""Full frames: how much of the decoder's speed it costs to put its frames back into a picture of 1920 x 1080."""

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
    """Frames per second of the decoder alone, with composition, and with composition and a held rim; what is lost."""
    made = engine(subject)
    portrait = made.portrait(subject.pixels)
    count = subject.sizes.frame_batches * made.frame_batch
    motion = portrait.motion.expand(count, -1)  # the decoder takes as long for any other
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    picture = picture_of(FullFrame(noise, ((WIDTH - SQUARE) / 2 + 0.3, (HEIGHT - SQUARE) / 2, SQUARE)), YUV420P)
    (rest,) = made.decoded(portrait, portrait.motion)
    figures: Figures = {"picture": [WIDTH, HEIGHT], "square": SQUARE}

    def rate(composer: Composer | None) -> float:
        def whole() -> None:
            for _ in composed(composer, made.decoded(portrait, motion)):
                pass

        return len(motion) / seconds(whole, subject.sizes.times)

    alone = figures["decode_fps"] = rate(None)
    for name, share in (("composed", 0.0), ("held", 1.0)):
        found = rate(Composer(picture, subject.pixels, rest, hold_rim=share))
        figures[f"{name}_fps"], figures[f"{name}_loss"] = found, 1 - found / alone
        say(f"  {name}: {found:.2f} frames/s of {alone:.2f}, {max(0.0, 1 - found / alone):.1%} lost")
        subject.report(figures)
    return figures | {"within_limit": figures["held_loss"] <= MOST_LOST}
