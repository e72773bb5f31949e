"""A film strip: frames of each video in a row, one row per video. Used for READMEs."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pipeline.measure.video_pass import decoded
from pipeline.media.contact_sheet import Tile, contact_sheet
from pipeline.storage.objects import fetched


def film_strip(videos: Sequence[str], frames: int, side: int) -> Image.Image:
    """An image of videos*side by frames*side px with `frames` frames of each video, at equal intervals.

    Frame i is the middle of the i-th of `frames` equal parts. Raises av.FFmpegError if a video cannot be decoded.
    """
    return contact_sheet([_row(uri, frames) for uri in videos], side=side)


def _row(uri: str, frames: int) -> list[Tile]:
    with fetched(uri) as path:
        assert path is not None
        found = [frame.av_frame.to_ndarray(format="rgb24") for frame in decoded(Path(path))]
    return [Tile(found[(2 * i + 1) * len(found) // (2 * frames)]) for i in range(frames)]
