"""Portraits of generated people, for use where no photograph may be used."""

from dataclasses import dataclass

import numpy as np

from models.config import POSE_DIM
from pipeline.common.options import SettingError, check_ranges, option
from pipeline.research.corpus.head import Head
from pipeline.research.corpus.look import Look
from pipeline.research.corpus.renderer import SIZES, Renderer
from pipeline.research.corpus.units import ARKIT


@dataclass
class PortraitSettings:
    """Whose portraits are drawn."""

    seeds: list[int] = option(
        [2011, 2016, 2017, 2022], "One person per seed; the defaults are the portraits of the demo."
    )
    size: int = option(512, f"Side length of the images, px: {', '.join(map(str, SIZES))}.")

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.size not in SIZES:
            raise SettingError("size", f"{self.size} is not one of {', '.join(map(str, SIZES))}")
        if not self.seeds or min(self.seeds) < 0 or max(self.seeds) >= 2**32:
            raise SettingError("seeds", "give at least one seed, each from 0 to 4294967295")


def draw_portrait(seed: int, size: int) -> np.ndarray:
    """(size,size,3) uint8 RGB: the person `seed` looks into the camera with a neutral face and closed lips.

    `jobs.research.corpus` draws the seeds of its speakers (32 bits) from its own seed and their numbers; with
    corpus.seed=0 none of the first thousand is below 700,000.
    """
    head = Head(seed)
    renderer = Renderer(head, Look.drawn(seed, head), size)
    still = np.zeros((1, len(ARKIT)), np.float32)
    return renderer.render(still, np.zeros((1, POSE_DIM), np.float32), np.zeros((1, 2), np.float32)).frames[0]
