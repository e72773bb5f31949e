"""The slot of a clip in a programme: a number of frames that its video has to have, however long its audio is."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.notes import Note

ON_LENGTH = ("refuse", "pad", "trim")
"""What may happen if the audio needs another number of frames than the slot has."""

AT_MOST = "at_most"
"""What no row can ask for, but a preview does: longer audio is cut, and shorter audio stays as it is."""

EITHER = "either"
"""What a preview asks for of a row that is padded: longer audio is cut, and shorter audio extended with silence."""

MOST_FRAMES = 24 * 3600 * 120
"""A day at the highest frame rate; the limit on minutes of audio is far below."""

ROUNDING = 1
"""Number of frames by which audio and slot may always differ: sounds of programmes are cut to frames by rounding."""

FADE_SECONDS = 0.005
"""A cut sound ends with a fade of this length, so that no click is heard."""


class Reading(Protocol):
    """What reads a sound once: a `SoundReader` or a `MixReader`."""

    peak: float
    """Largest absolute sample so far; full scale is 1."""

    @property
    def rate(self) -> int:
        """Samples per second. Known from the first piece on, like the next two."""

    @property
    def layout(self) -> str:
        """FFmpeg's name of the channels' positions."""

    @property
    def channels(self) -> int:
        """Number of channels."""

    @property
    def samples(self) -> int:
        """Number of samples per channel, after the last piece."""

    @property
    def stream(self) -> str | None:
        """Which of several streams is used, and why; None if there is one."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was noticed, after the last piece."""

    def pieces(self) -> Iterator[np.ndarray]:
        """(channels, samples) float32; full scale is 1. Raises ClipError."""


@dataclass(frozen=True)
class Slot:
    """What a clip has to be as long as, and what to do with audio of another length."""

    frames: int
    fps: Fraction
    on_length: str = "refuse"
    """pad extends shorter audio with silence, and trim cuts longer audio; refuse does neither. Or AT_MOST or EITHER."""

    @property
    def seconds(self) -> Fraction:
        """Exact length."""
        return self.frames / self.fps

    def samples(self, rate: int) -> int:
        """The most samples per channel that need this number of frames, and no more."""
        return self.frames * rate * self.fps.denominator // self.fps.numerator

    def frames_for(self, needed: int) -> int:
        """Number of frames of a clip whose audio needs this number."""
        return min(self.frames, needed) if self.on_length == AT_MOST else self.frames

    def check(self, limits: Limits) -> None:
        """Raise ClipError audio_too_long if the slot is longer than audio may be."""
        if self.seconds > limits.max_audio_minutes * 60:
            raise ClipError(
                "audio_too_long",
                f"the slot of {self._length(self.frames, self.seconds)} is longer than limits.max_audio_minutes = "
                f"{limits.max_audio_minutes:g}: give fewer frames, or raise the limit",
            )

    def fitted(self, reader: Reading) -> Iterator[np.ndarray]:
        """The reader's pieces (channels,samples), cut or extended with silence to exactly `samples(rate)`.

        With AT_MOST they are only cut.

        Raises ClipError length_differs after the last piece, when the length of the audio is known, and what the reader
        raises.
        """
        waiting: np.ndarray | None = None  # the end of what was read may have to be faded
        given, cut = 0, False
        for piece in reader.pieces():
            fade = round(FADE_SECONDS * reader.rate)
            held = 0 if waiting is None else waiting.shape[1]
            room = self.samples(reader.rate) - given - held
            cut = cut or piece.shape[1] > room
            if room <= 0:
                continue
            piece = piece[:, :room]
            if waiting is not None and room < fade:
                waiting = np.concatenate([waiting, piece], axis=1)
                continue
            if waiting is not None:
                given += held
                yield waiting
            waiting = piece
        assert waiting is not None
        self._check_length(reader)
        if cut:
            fade = min(waiting.shape[1], round(FADE_SECONDS * reader.rate))
            waiting = waiting.copy()
            waiting[:, -fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        given += waiting.shape[1]
        yield waiting
        missing = 0 if self.on_length == AT_MOST else self.samples(reader.rate) - given
        for start in range(0, missing, reader.rate):
            yield np.zeros((reader.channels, min(reader.rate, missing - start)), np.float32)

    def notes(self, reader: Reading) -> tuple[Note, ...]:
        """What was done to audio that differs by more than the rounding, unless that is what a slot is for."""
        if self.on_length in (AT_MOST, EITHER):
            return ()
        needed, seconds = self._needed(reader)
        slot, audio = self._length(self.frames, self.seconds), self._length(needed, seconds)
        if needed < self.frames - ROUNDING:
            text = f"the audio lasts {audio}, and the slot {slot}: the rest was filled with silence and idle motion"
            return (Note("length_padded", text),)
        if needed > self.frames + ROUNDING:
            text = f"the audio lasts {audio}, and the slot {slot}: the sound was cut there, with a short fade"
            return (Note("length_trimmed", text),)
        return ()

    def fits(self, reader: Reading) -> bool:
        """Whether the audio, which was read to its end, has the slot's length up to the rounding."""
        return abs(self._needed(reader)[0] - self.frames) <= ROUNDING

    def _check_length(self, reader: Reading) -> None:
        if self.fits(reader) or self.on_length in (AT_MOST, EITHER):
            return
        needed, seconds = self._needed(reader)
        longer = needed > self.frames
        remedy = "trim" if longer else "pad"
        if self.on_length == remedy:
            return
        done = "cuts the sound there" if longer else "adds silence and idle motion"
        raise ClipError(
            "length_differs",
            f"the audio lasts {self._length(needed, seconds)}, but the row's frames are "
            f"{self._length(self.frames, self.seconds)} at {self.fps} fps, and on_length is {self.on_length}: set "
            f"frames to {needed}, give other audio, or set on_length to {remedy}, which {done}",
        )

    def _needed(self, reader: Reading) -> tuple[int, Fraction]:
        """Number of frames that cover the audio, and its length in seconds."""
        seconds = Fraction(reader.samples, reader.rate)
        return -int(-(seconds * self.fps) // 1), seconds

    def _length(self, frames: int, seconds: Fraction) -> str:
        return f"{frames} {'frame' if frames == 1 else 'frames'} ({float(seconds):.3f} s)"


class ClipLength(Slot):
    """The length of a clip, which its further audio tracks must have. It pads and cuts them as a slot does."""

    def _check_length(self, reader: Reading) -> None:
        needed, seconds = self._needed(reader)
        if self.fits(reader) or self.on_length == ("trim" if needed > self.frames else "pad"):
            return
        raise ClipError(
            "track_length_differs",
            f"it lasts {self._length(needed, seconds)}, but the clip {self._length(self.frames, self.seconds)} at "
            f"{self.fps} fps: give a track of the clip's length, or give the row frames and the on_length "
            f"{'trim' if needed > self.frames else 'pad'}",
        )
