"""The audio: loudness and true peak by EBU R128, silence and clipping, and the level curve for the speech checks."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
from av.filter import Graph

from models import SAMPLE_RATE
from pipeline.common.errors import ClipError
from pipeline.measure.metric import Measured, Metric, above
from pipeline.measure.video_pass import Delivery
from pipeline.media.filters import audio_chain, pulled
from pipeline.media.mix import MixReader
from pipeline.media.mono import MonoMixer, as_frame, as_int16
from pipeline.media.slot import Reading, Slot
from pipeline.media.sound_reader import CONTAINERS, SoundReader

QUIET_DB = -60.0
"""Audio below this level, in dBFS, is silence (silencedetect)."""
FULL = 0.999
"""Samples from this value on count as clipped."""
GATE = -70.0
"""What ebur128 reports, in LUFS, if nothing is louder than its absolute gate (ITU-R BS.1770-5)."""
FILMS = f"{CONTAINERS},avi,mpegts,mxf"
"""Containers of a file, which may be a film that is only measured."""


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
            above(fail=0.1, short=1.5),
            "the delivery must not change the audio, but a block of 0.4 s near the gate may count in one file and not "
            "in the other, which matters in a clip of few seconds s: of 1312 good pieces of speech of 1 to 5 s (MP3, "
            "WebM, M4A, WAV) none exceeds this limit, and 18 exceed 0.1",
            "raise video.audio_kbps, or compare both files",
        ),
        Metric(
            "qc_true_peak_dbtp",
            "dBTP",
            "True peak (EBU R128, four times oversampled).",
            above(review=0, fail=12),
            "EBU R128 requires -1 dBTP or less for a programme, and above 0 every player clips. Speech that is clipped "
            "at a hundredth of its level reaches 7 dBTP as AAC, clipped noise 11: what is higher has the wrong scale",
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
        self.notes: list[str] = []
        """What could not be measured, in words."""

    def metrics(self) -> Measured:
        """Decode and measure both. Raises ClipError if the delivery cannot be decoded."""
        source = None
        if self._delivery.source is not None or self._delivery.voices:
            try:
                source = self._measured_source()
            except ClipError as fault:
                self.notes.append(f"the source cannot be decoded, so it is not compared: {fault.message}")
        delivered = measure(self._delivery.path, wanted="1", heard=self._delivery.heard)  # other tracks follow it
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

    def _measured_source(self) -> "AudioMeasurements":
        """The stream and the part of it from which the clip was made, or the mix of several."""
        delivery = self._delivery
        if delivery.source is None:
            return _measured(MixReader(delivery.voices, containers=FILMS), delivery.slot, float("inf"))
        return measure(delivery.source, delivery.language, wanted=delivery.audio_stream, slot=delivery.slot)


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


def measure(
    sound: bytes | Path,
    language: str | None = None,
    max_seconds: float = float("inf"),
    wanted: str | None = None,
    slot: Slot | None = None,
    heard: float = float("inf"),
) -> AudioMeasurements:
    """Decode a file's audio once, as for rendering, and as long as its `slot` if it has one.

    What comes after `heard` seconds was added, and is no silence of the recording. Raises ClipError if the audio cannot
    be decoded, or lasts longer than `max_seconds`.
    """
    with contextlib.ExitStack() as stack:
        file = sound if isinstance(sound, bytes) else stack.enter_context(sound.open("rb"))
        reader = SoundReader(file, language=language, wanted=wanted, max_seconds=max_seconds, containers=FILMS)
        return _measured(reader, slot, heard)


def _measured(reader: Reading, slot: Slot | None, heard: float) -> AudioMeasurements:
    graph: Graph | None = None
    mono: MonoMixer | None = None
    wave: list[np.ndarray] = []
    last: dict[str, str] = {}
    longest = start = 0.0
    silent = False
    samples = clipped = 0

    def take(frames: Iterable[av.AudioFrame | av.VideoFrame]) -> None:
        nonlocal longest, start, silent
        for seen in frames:
            found = seen.metadata
            last.update(found)
            # The filter reports the start of a silence when it has lasted for `d`, and its length when it ends.
            if "lavfi.silence_start" in found:
                start, silent = float(found["lavfi.silence_start"]), True
            if "lavfi.silence_duration" in found:
                longest, silent = max(longest, float(found["lavfi.silence_duration"])), False

    for piece in reader.pieces() if slot is None else slot.fitted(reader):
        if graph is None or mono is None:
            graph, mono = _graph(reader), MonoMixer(reader.rate, reader.layout, reader.channels)
        frame = as_frame(piece, reader.rate, reader.layout)
        frame.pts, frame.time_base = samples, Fraction(1, reader.rate)  # silencedetect uses it
        samples += piece.shape[1]
        clipped += int((np.abs(piece) >= FULL).sum())
        graph.push(frame)
        take(pulled(graph))
        wave.append(as_int16(mono.add(piece)))
    assert graph is not None
    assert mono is not None
    graph.push(None)
    take(pulled(graph))
    wave.append(as_int16(mono.close()))
    seconds = samples / reader.rate
    if silent:
        longest = max(longest, min(seconds, heard) - start)
    loudness = float(last.get("lavfi.r128.I", "nan"))
    peaks = [float(value) for name, value in last.items() if name.startswith("lavfi.r128.true_peaks_ch")]
    peak = max(peaks, default=0.0)
    return AudioMeasurements(
        loudness=round(loudness, 3) if np.isfinite(loudness) and loudness > GATE else None,
        true_peak=round(20 * float(np.log10(peak)), 2) if peak > 0 else None,
        silence=round(longest, 3),
        seconds=seconds,
        clipped=clipped / (samples * reader.channels),
        wave=np.concatenate(wave),
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


def _graph(reader: Reading) -> Graph:
    form = "fltp" if reader.channels <= 2 else "flt"  # as `as_frame` makes them
    # ebur128 makes frames of 100 ms of its own, and what a filter before it has reported about a frame would be lost.
    filters = (("ebur128", "peak=true:metadata=1:framelog=quiet"), ("silencedetect", f"n={QUIET_DB}dB:d=0.3:mono=0"))
    return audio_chain(reader.rate, form, reader.layout, *filters)
