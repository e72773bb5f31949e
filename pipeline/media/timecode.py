"""Time codes of SMPTE ST 12-1: what a text means at a frame rate, and which one follows after some frames."""

import re
from dataclasses import dataclass
from fractions import Fraction

_TEXT = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})([:;])([0-9]{2,3})")


@dataclass(frozen=True)
class Timecode:
    """The address of a frame, which counts frames by the rounded rate."""

    frame: int
    """Number of the frame in its day, from 0, without numbers that are left out."""
    rate: int
    """Frame numbers per second: the frame rate, rounded."""
    drop: bool = False
    """Whether numbers are left out, so that a rate of n x 1000/1001 keeps the time of the day."""

    def __str__(self) -> str:
        """HH:MM:SS:FF, or HH:MM:SS;FF with left-out numbers."""
        number = self.frame
        if self.drop:
            left_out = self.rate // 15
            tens, rest = divmod(number, self._ten_minutes)
            # The first minute of ten has all of its numbers, each of the others begins with `left_out`.
            minutes = max(0, rest - left_out) // (self.rate * 60 - left_out)
            number += left_out * (9 * tens + minutes)
        seconds, frames = divmod(number, self.rate)
        hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
        digits = len(str(self.rate - 1))
        return f"{hours:02}:{minutes:02}:{seconds:02}{';' if self.drop else ':'}{frames:0{max(2, digits)}}"

    def after(self, frames: int) -> "Timecode":
        """The time code so many frames later; midnight follows the last one of a day."""
        return Timecode((self.frame + frames) % self._day, self.rate, self.drop)

    def until(self, other: "Timecode") -> int:
        """Number of frames from here to another time code of the same rate, over midnight if it is earlier."""
        return (other.frame - self.frame) % self._day

    @property
    def _ten_minutes(self) -> int:
        return self.rate * 600 - (9 * (self.rate // 15) if self.drop else 0)

    @property
    def _day(self) -> int:
        return 144 * self._ten_minutes


def parse_timecode(text: str, fps: Fraction) -> Timecode:
    """A time code at a frame rate. Raises ValueError with a sentence for what is none, or none at this rate."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError("it is not a SMPTE time code such as 10:00:00:00, or 10:00:00;00 with left-out numbers")
    rate = round(fps)
    if fps != rate and fps != Fraction(rate * 1000, 1001):
        raise ValueError(f"{fps} frames per second have no time code: it needs a whole rate, or one of n x 1000/1001")
    hours, minutes, seconds, frames = (int(found[n]) for n in (1, 2, 3, 5))
    drop = found[4] == ";"
    if drop and (fps == rate or rate % 30):
        raise ValueError(
            "numbers are left out (;) at 30000/1001, 60000/1001 and 120000/1001 frames per second alone: write a colon"
        )
    for value, limit, what in ((hours, 24, "hours"), (minutes, 60, "minutes"), (seconds, 60, "seconds")):
        if value >= limit:
            raise ValueError(f"it has {value} {what}, and {limit - 1} are the most")
    if frames >= rate:
        raise ValueError(f"it has frame {frames}, and {rate - 1} is the last of a second at {fps} frames per second")
    left_out = rate // 15
    if drop and frames < left_out and seconds == 0 and minutes % 10:
        raise ValueError(
            f"frames 0 to {left_out - 1} are left out at the start of minute {minutes}: the next one is "
            f"{hours:02}:{minutes:02}:00;{left_out:02}"
        )
    number = (hours * 3600 + minutes * 60 + seconds) * rate + frames
    if drop:
        passed = hours * 60 + minutes
        number -= left_out * (passed - passed // 10)
    return Timecode(number, rate, drop)
