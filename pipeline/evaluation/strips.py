"""Pictures of a pair for the page: frames of the real and of the generated video at the same times."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.common.child import in_child
from pipeline.common.limits import Limits
from pipeline.common.stage import Resources, Stage
from pipeline.evaluation.compare import in_step, in_step_frames
from pipeline.evaluation.files import features
from pipeline.evaluation.stage import Row, guarded
from pipeline.evaluation.worst import to_picture, worst_pairs
from pipeline.media.contact_sheet import comparison_sheet
from pipeline.storage.untrusted import input_file

FRAMES = 6
"""Number of frames per video, at equal intervals."""
SIDE = 256
"""Frames are reduced to at most this many pixels."""


def strip_items(rows: Sequence[Row], videos: Mapping[str, Row]) -> list[Row]:
    """The items of the stage, for the worst pairs; `videos`: URI -> row of `stage.VideoStage`."""
    both = ("generated", "reference")
    return [
        {name: row[name] for name in ("row", *both)} | {"names": [videos[row[name]]["name"] for name in both]}
        for row in to_picture(worst_pairs(rows))
    ]


class StripStage(Stage):
    """{row, generated, reference, names: the stored names of both} -> {row, status, jpeg}."""

    name = "strips"

    def __init__(self, output: str, limits: Limits, resources: Resources | None = None) -> None:
        self.resources = resources or Resources()
        self._output, self._limits = output, limits

    def process(self, items: Sequence[Row]) -> Iterator[Row]:
        """Draw one strip per item."""
        for item in items:
            yield guarded(self._strip, item, {"row": item["row"]})

    def _strip(self, item: Row) -> Row:
        times = []
        for name in item["names"]:
            with features(self._output, name, "times") as kept:
                times.append(np.array(kept, dtype=np.float64))
        with (
            input_file(item["generated"], self._limits) as generated,
            input_file(item["reference"], self._limits) as reference,
        ):
            jpeg = in_child(drawn_strip, generated, reference, times, self._limits)
        return {"row": item["row"], "status": "done", "jpeg": jpeg}


def drawn_strip(generated: Path, reference: Path, times: Sequence[np.ndarray], limits: Limits) -> bytes:
    """A JPEG with the real video above the generated one; `times` are those of the generated and the real frames."""
    partner = in_step(*times)
    numbers = np.unique(np.linspace(0, len(partner) - 1, FRAMES).round().astype(np.int64))
    made: list[np.ndarray] = []
    real: list[np.ndarray] = []
    for ours, theirs in in_step_frames([generated, reference], [numbers, partner[numbers]], limits):
        for frame, kept in ((ours.av_frame, made), (theirs.av_frame, real)):
            scale = min(1.0, SIDE / max(frame.width, frame.height))
            size = {name: max(2, round(scale * getattr(frame, name))) for name in ("width", "height")}
            kept.append(frame.reformat(**size, format="rgb24", interpolation="AREA").to_ndarray())
    return comparison_sheet({"real": real, "generated": made})
