"""The image: black, frozen, blurred or flickering video, by FFmpeg's own filters where they exist."""

from typing import ClassVar

import av
import numpy as np
from av.filter import Graph

from pipeline.measure.metric import Measured, Metric, above
from pipeline.measure.video_pass import Delivery, Frame
from pipeline.media.filters import video_chain

BLACK_SECONDS, FROZEN_SECONDS = 0.08, 0.4
"""Shortest stretches that count: two black frames may be a cut, and a listener sits still for a moment."""

BLUR_EVERY = 10
"""Interval in frames: FFmpeg's blurdetect takes longer than all other filters, and blur changes slowly."""


class ImageQuality:
    """Feeds the frames to blackdetect, freezedetect and blurdetect, and measures flicker."""

    METRICS: ClassVar = (
        Metric(
            "qc_black_seconds",
            "s",
            f"Black video, in stretches of {BLACK_SECONDS:g} s and more (FFmpeg's blackdetect with its defaults).",
            above(fail=0),
            "no delivery contains black video; EBU QC 0031B",
            "check the portrait and this place in the video",
            by_model=True,
        ),
        Metric(
            "qc_frozen_seconds",
            "s",
            f"Frozen video, in stretches of {FROZEN_SECONDS:g} s and more (freezedetect at -60 dB).",
            above(review=0, fail=1),
            "EBU QC 0032B requires a limit; a speaking portrait moves in every frame",
            "check this place: the motion has stopped, or the audio is silent",
            by_model=True,
        ),
        Metric(
            "qc_blur",
            "px",
            "Median width of the edges (blurdetect, after Marziliano 2002); higher is more blurred.",
            above(review=9),
            "measured at 512 px: 7.6 for the photograph of the demo, 14.4 after a Gaussian blur of 3 px",
            "use a larger portrait, or crop it yourself",
            by_model=True,
        ),
        Metric(
            "qc_flicker",
            "of 255",
            "Mean absolute second difference of the mean brightness of the frames.",
            above(review=1, fail=4),
            "measured: 0.55 for a portrait that speaks and sways, 3.8 for brightness that alternates by 2 %",
            "try another seed; check the edges of the portrait",
            by_model=True,
        ),
    )

    def __init__(self, delivery: Delivery) -> None:
        # The rate is required because freezedetect cannot know how long the last frame lasts.
        self._fps = delivery.fps
        self._stretches: Graph | None = None
        self._blur: Graph | None = None
        self._black: list[list[float]] = []
        self._frozen: list[list[float]] = []
        self._blurs: list[float] = []
        self._brightness: list[float] = []
        self._frames = 0

    def frame(self, frame: Frame) -> None:
        """Take the next frame."""
        if self._stretches is None:
            filters = (("blackdetect", f"d={BLACK_SECONDS}"), ("freezedetect", f"n=-60dB:d={FROZEN_SECONDS}"))
            self._stretches = video_chain(frame.av_frame, 1 / self._fps, *filters)
            self._blur = video_chain(frame.av_frame, 1 / self._fps, ("blurdetect", ""))
        self._frames += 1
        self._brightness.append(float(frame.luma[::4, ::4].mean()))
        frame.av_frame.pts, frame.av_frame.time_base = frame.number, 1 / self._fps
        seen = self._through(self._stretches, frame.av_frame)
        _note(self._black, seen, "lavfi.black_start", "lavfi.black_end")
        _note(self._frozen, seen, "lavfi.freezedetect.freeze_start", "lavfi.freezedetect.freeze_end")
        if frame.number % BLUR_EVERY == 0:
            assert self._blur is not None
            blur = float(self._through(self._blur, frame.av_frame).get("lavfi.blur", "nan"))
            if np.isfinite(blur):
                self._blurs.append(blur)

    def metrics(self) -> Measured:
        """Compute the metrics after the last frame."""
        seconds = self._frames / float(self._fps)
        changes = np.abs(np.diff(self._brightness, 2))
        return {
            "qc_black_seconds": _total(self._black, seconds, BLACK_SECONDS),
            "qc_frozen_seconds": _total(self._frozen, seconds, FROZEN_SECONDS),
            "qc_blur": round(float(np.median(self._blurs)), 2) if self._blurs else None,
            "qc_flicker": round(float(changes.mean()), 3) if len(changes) else None,
        }

    @staticmethod
    def _through(graph: Graph, picture: av.VideoFrame) -> dict[str, str]:
        graph.push(picture)
        return dict(graph.pull().metadata)


def _note(stretches: list[list[float]], seen: dict[str, str], start: str, end: str) -> None:
    """Record stretches as [start] or [start, end], in seconds."""
    if end in seen and stretches and len(stretches[-1]) == 1:
        stretches[-1].append(float(seen[end]))
    if start in seen:
        stretches.append([float(seen[start])])


def _total(stretches: list[list[float]], seconds: float, least: float) -> float:
    lengths = [(stretch[1] if len(stretch) > 1 else seconds) - stretch[0] for stretch in stretches]
    return round(sum((length for length in lengths if length >= least), 0.0), 3)
