"""The frames of a clip in a programme: counted from the programme's start, so that no rounding adds up."""

from dataclasses import dataclass
from fractions import Fraction

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media.slot import ROUNDING, Slot
from pipeline.media.sound_reader import SoundReader

ON_LENGTH = "programme"
"""`Slot.on_length` of such a clip: its audio differs from its frames by less than one, and never needs a remedy."""


@dataclass(frozen=True)
class Budget:
    """Where a programme is when a clip of it begins.

    A clip ends with the frame that covers the end of all audio so far: a programme has ceil(its seconds x fps) frames,
    as a single clip of that length would have.
    """

    fps: Fraction
    seconds: Fraction = Fraction(0)
    """Exact length of the programme's audio before the clip."""
    frames: int = 0
    """Number of its frames before the clip."""
    room: int | None = None
    """The most frames that the clip may have, because the next one begins there."""
    fills: bool = False
    """Whether it has all of them: silence and idle motion follow its audio."""

    def slot(self, data: bytes, limits: Limits, language: str | None = None, wanted: str | None = None) -> Slot:
        """The slot of a clip with this audio, which is read once for its length.

        Raises ClipError: programme_overlaps, audio_too_short, and what `SoundReader.pieces` raises.
        """
        reader = SoundReader(data, language=language, wanted=wanted, max_seconds=limits.max_audio_minutes * 60)
        for _ in reader.pieces():
            pass
        return self.of(Fraction(reader.samples, reader.rate))

    def of(self, seconds: Fraction) -> Slot:
        """The slot of a clip whose audio has this length. Raises ClipError: programme_overlaps, audio_too_short."""
        frames = -int(-((self.seconds + seconds) * self.fps) // 1) - self.frames
        if frames < 1:
            raise ClipError(
                "audio_too_short",
                f"{float(seconds):.3f} s of audio end within the last frame of the row before it: join it to one of "
                "its neighbours in the programme",
            )
        self.check(frames)
        if self.fills and self.room is not None:
            return Slot(self.room, self.fps, "pad")
        return Slot(min(frames, self.room or frames), self.fps, ON_LENGTH)

    def check(self, frames: int) -> None:
        """Raise ClipError programme_overlaps if a clip of so many frames reaches into the next row."""
        if self.room is not None and frames > self.room + ROUNDING:
            raise ClipError(
                "programme_overlaps",
                f"the row needs {frames} frames, but the next row of its programme begins {self.room} frames after it "
                "by their time codes: give shorter audio, or correct the time codes",
            )

    def after(self, slot: Slot, seconds: Fraction) -> Fraction:
        """Length of the programme's audio after a clip with this slot and audio of so many seconds."""
        if slot.on_length == ON_LENGTH and (self.room is None or slot.frames < self.room):
            return self.seconds + seconds
        return (self.frames + slot.frames) / self.fps  # it counts on from a whole frame
