"""The audio: loudness and true peak by EBU R128, silence and clipping, and the level curve for the speech checks."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import av
import numpy as np
from av.filter import Graph

from models import SAMPLE_RATE
from pipeline.measure.ffmpeg_filters import connect
from pipeline.measure.metric import Measured, Metric, above
from pipeline.measure.video_pass import Delivery
from pipeline.media.sound_reader import OPTIONS, without_end

QUIET_DB = -60.0
"""Audio below this level, in dBFS, is silence (silencedetect)."""
FULL = 0.999
"""Samples from this value on count as clipped."""
GATE = -70.0
"""What ebur128 reports, in LUFS, if nothing is louder than its absolute gate (ITU-R BS.1770-5)."""


class Sound:
    """Measured in one streaming pass over the delivered audio, and in one over its source."""

    METRICS: ClassVar = (
        Metric(
            "qc_loudness_lufs",
            "LUFS",
            "Integrated loudness (EBU R128, ITU-R BS.1770; FFmpeg's ebur128). Set a limit in the config if you need "
            "one.",
            origin="EBU R128 requires -23 LUFS for a programme, and a clip is only a part of one",
        ),
        Metric(
            "qc_loudness_error_lu",
            "LU",
            "Absolute difference between the loudness of the delivery and that of the source.",
            above(fail=0.1),
            "the delivery must not change the audio; AAC at the default bit rate stays below 0.05",
            "raise video.audio_kbps, or compare both files",
        ),
        Metric(
            "qc_true_peak_dbtp",
            "dBTP",
            "True peak (EBU R128, four times oversampled).",
            above(review=0),
            "EBU R128 requires -1 dBTP or less for a programme; above 0 every player clips",
            "lower the level of the source, which the delivery copies",
        ),
        Metric(
            "qc_silence_seconds",
            "s",
            f"Longest silence (silencedetect at {QUIET_DB:g} dBFS).",
            above(review=4),
            "EBU QC 0044B; longer pauses in speech are rare",
            "check the recording: a part of it may be missing",
        ),
        Metric(
            "qc_clipped_share",
            "share",
            f"Share of the samples at {FULL:g} of full scale or more.",
            above(review=1e-4),
            "a clean recording has none; 1e-4 is five per second at 48 kHz",
            "record again at a lower level",
        ),
    )

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self.envelope: np.ndarray = np.zeros(0, np.float32)
        """Audio level at the time of each frame, dBFS (RMS over the surrounding 40 ms, at least -80)."""
        self.wave_16k: np.ndarray = np.zeros(0, np.int16)
        """The delivered audio for SyncNet, 16 kHz mono."""

    def metrics(self) -> Measured:
        """Decode and measure both."""
        source = None if self._delivery.source is None else measure(io.BytesIO(self._delivery.source))
        # An encoder fills up its last frame with silence, which would change the loudness of a short clip.
        delivered = measure(str(self._delivery.path), None if source is None else source.seconds)
        self.wave_16k = delivered.wave
        self.envelope = levels(delivered.wave, float(self._delivery.fps), self._delivery.frames)
        error = None
        if source is not None and source.loudness is not None and delivered.loudness is not None:
            error = round(abs(source.loudness - delivered.loudness), 3)
        return {
            "qc_loudness_lufs": delivered.loudness,
            "qc_loudness_error_lu": error,
            "qc_true_peak_dbtp": delivered.true_peak,
            "qc_silence_seconds": delivered.silence,
            "qc_clipped_share": delivered.clipped,
        }


@dataclass(frozen=True, eq=False)
class AudioMeasurements:
    """Measurements of one audio file."""

    loudness: float | None
    """LUFS; None below the gate or for less than 0.4 s."""
    true_peak: float | None
    """dBTP; None for digital silence."""
    silence: float
    """The longest silence, s."""
    clipped: float
    seconds: float
    wave: np.ndarray
    """(samples at 16 kHz,) int16 mono."""


def measure(place: str | io.BytesIO, seconds: float | None = None) -> AudioMeasurements:
    """Decode the first audio stream once, up to `seconds` of it. Raises av.FFmpegError if it cannot be decoded."""
    graph: Graph | None = None
    mono = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    wave: list[np.ndarray] = []
    last: dict[str, str] = {}
    longest = start = end = 0.0
    silent = False
    samples = total = clipped = 0

    def take(frames: Iterable[av.AudioFrame]) -> None:
        nonlocal longest, start, silent
        for seen in frames:
            found = seen.metadata
            last.update(found)
            # The filter reports the start of a silence when it has lasted for `d`, and its length when it ends.
            if "lavfi.silence_start" in found:
                start, silent = float(found["lavfi.silence_start"]), True
            if "lavfi.silence_duration" in found:
                longest, silent = max(longest, float(found["lavfi.silence_duration"])), False

    with av.open(place, "r", options=OPTIONS if isinstance(place, io.BytesIO) else {}) as file:
        for frame in file.decode(file.streams.audio[0]):
            if graph is None:
                graph = _graph(frame)
            excess = 0 if seconds is None else round((end - seconds) * frame.sample_rate) + frame.samples
            if excess >= frame.samples:
                break
            if excess > 0:
                frame = without_end(frame, excess)
            frame.pts, frame.time_base = samples, Fraction(1, frame.sample_rate)  # silencedetect uses it
            samples, end = samples + frame.samples, end + frame.samples / frame.sample_rate
            values = frame.to_ndarray()
            full = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype.str).max)
            loud = np.abs(values.astype(np.float32)) >= FULL * full
            clipped, total = clipped + int(loud.sum()), total + values.size
            graph.push(frame)
            take(_pulled(graph))
            wave += [out.to_ndarray()[0] for out in mono.resample(frame)]
    if graph is not None:
        graph.push(None)
        take(_pulled(graph))
        wave += [out.to_ndarray()[0] for out in mono.resample(None)]
    if silent:
        longest = max(longest, end - start)
    loudness = float(last.get("lavfi.r128.I", "nan"))
    peaks = [float(value) for name, value in last.items() if name.startswith("lavfi.r128.true_peaks_ch")]
    peak = max(peaks, default=0.0)
    return AudioMeasurements(
        loudness=round(loudness, 3) if np.isfinite(loudness) and loudness > GATE else None,
        true_peak=round(20 * float(np.log10(peak)), 2) if peak > 0 else None,
        silence=round(longest, 3),
        seconds=end,
        clipped=clipped / max(1, total),
        wave=np.concatenate(wave) if wave else np.zeros(0, np.int16),
    )


def levels(wave: np.ndarray, fps: float, frames: int) -> np.ndarray:
    """(samples at 16 kHz,) int16 -> (frames,) float32 dBFS at the middle of each frame, RMS over 40 ms."""
    reach = SAMPLE_RATE // 50
    found = np.full(frames, -80.0, np.float32)
    for number in range(
        frames
    ):  # one by one, because all at once would take eight times the memory of an hour of audio
        middle = round((number + 0.5) / fps * SAMPLE_RATE)
        part = wave[max(0, middle - reach) : middle + reach].astype(np.float32) / 2**15
        if len(part):
            found[number] = 10 * np.log10(max(1e-8, float(part @ part) / len(part)))
    return found


def _graph(like: av.AudioFrame) -> Graph:
    graph = Graph()
    graph.threads = 1
    source = graph.add_abuffer(
        sample_rate=like.sample_rate, format=like.format.name, layout=like.layout.name, time_base=None
    )
    filters = (("silencedetect", f"n={QUIET_DB}dB:d=0.3:mono=0"), ("ebur128", "peak=true:metadata=1:framelog=quiet"))
    return connect(graph, source, *filters, ("abuffersink", ""))


def _pulled(graph: Graph) -> Iterable[av.AudioFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, av.AudioFrame)
        yield frame
