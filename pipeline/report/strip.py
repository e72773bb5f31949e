"""A strip: some frames of each video in a row, videos below each other. For a README."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.measure.video_pass import decoded
from pipeline.storage.objects import fetched


def film_strip(videos: Sequence[str], frames: int, side: int) -> np.ndarray:
    """Pictures (videos*side, frames*side, 3) uint8: `frames` of each video, evenly over its length.

    Frame i is the middle of the i-th of `frames` equal parts. Raises av.FFmpegError where a video does not decode.
    """
    return np.concatenate([np.concatenate(list(_row(uri, frames, side)), axis=1) for uri in videos])


def _row(uri: str, frames: int, side: int) -> Iterator[np.ndarray]:
    with fetched(uri) as path:
        assert path is not None
        found = [frame.picture.to_ndarray(format="rgb24") for frame in decoded(Path(path))]
    for i in range(frames):
        picture = Image.fromarray(found[(2 * i + 1) * len(found) // (2 * frames)])
        yield np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))
