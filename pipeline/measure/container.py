"""The file itself: its frames and their times, the codec, and whether audio and video start and end together."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import ClassVar

import av

from pipeline.measure.metric import Measured, Metric, above
from pipeline.measure.video_pass import Delivery
from pipeline.media.file_faults import edit_faults, format_faults, frame_rate, track_faults


class Container:
    """Measured by demuxing; the times of the frames come from decoding."""

    METRICS: ClassVar = (
        Metric(
            "qc_frames_missing",
            "frames",
            "Absolute difference between the number of frames that the audio needs, ceil(duration x fps), or the row "
            "gives, and the number that can be decoded.",
            above(fail=0),
            "requirement of every delivery",
            "render the clip again; if this happens again, check the worker's disk",
        ),
        Metric(
            "qc_frame_gap_ms",
            "ms",
            "Largest difference between the time from one frame to the next and 1/fps.",
            above(fail=1.0),
            "constant frame rate; players round their clock to 1 ms",
            "the file was changed after rendering, or its upload failed: render the clip again",
        ),
        Metric(
            "qc_format_faults",
            "count",
            "Properties that differ from the delivery preset (for web: H.264 in a profile and level that players know, "
            "up to High 5.2, yuv420p, AAC in MP4), BT.709 limited range, progressive pictures, one edit per track, the "
            "expected size, the exact expected frame rate, or the audio tracks of the row.",
            above(fail=0),
            "requirement of every delivery",
            "render the clip again with the settings of this version",
        ),
        Metric(
            "qc_av_start_ms",
            "ms",
            "Difference between the start of the video and the start of the audio; of several tracks the largest.",
            above(review=20, fail=40),
            "EBU R37: audio may be 40 ms early or 60 ms late",
            "render the clip again",
        ),
        Metric(
            "qc_av_end_ms",
            "ms",
            "Difference between the end of the audio and the end of the video, which is drift if they start together; "
            "of several tracks the largest.",
            above(review=90, fail=160),
            "one frame at 25 fps plus one AAC frame at 24 kHz is 83 ms",
            "compare the duration of the clip with that of its source",
        ),
    )

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self.faults: list[str] = []
        """What is wrong with the format, in words."""

    def metrics(self, times: Sequence[Fraction | None]) -> Measured:
        """`times` are those of the decoded frames, as `video_pass.watch` returns them."""
        measured: Measured = {"qc_frames_missing": float(abs(self._delivery.frames - len(times)))}
        known = [time for time in times if time is not None]
        interval = 1 / self._delivery.fps
        gaps = [abs(after - before - interval) for before, after in pairwise(known)]
        measured["qc_frame_gap_ms"] = round(1000 * float(max(gaps, default=Fraction(0))), 3)
        with av.open(self._delivery.path, "r") as file:
            self._expect("number of video tracks", len(file.streams.video), 1)
            video = file.streams.video[0]
            start, end = known[0] if known else Fraction(0), known[-1] + interval if known else Fraction(0)
            starts, ends = [], []
            for sound in file.streams.audio:
                base = sound.time_base or Fraction(1)
                begins = (sound.start_time or 0) * base
                starts.append(abs(begins - start))
                ends.append(abs(begins + (sound.duration or 0) * base - end))
            for name, differences in (("start", starts), ("end", ends)):
                measured[f"qc_av_{name}_ms"] = round(1000 * float(max(differences)), 3) if differences else None
            self._expect("frame rate", frame_rate(video), self._delivery.fps)
            self.faults += format_faults(file, self._delivery.format, self._delivery.sides)
            self.faults += track_faults(file, self._delivery.format, [None, *self._delivery.tracks])
        self.faults += edit_faults(self._delivery.path, self._delivery.format, len(times) / self._delivery.fps)
        measured["qc_format_faults"] = float(len(self.faults))
        return measured

    def _expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.faults.append(f"{what} is {found} instead of {wanted}")
