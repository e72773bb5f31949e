"""MP3 and ADTS AAC: frames one after the other, each with a header, and whatever people put between them.

Only the headers are read. Tags, padding and a few stray bytes between frames belong to no frame and are left out. Other
bytes in the middle are damage, because at least a frame was there.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from pipeline.common.errors import ClipError
from pipeline.media.sound_parts import Layout, Part, whole

STRAY = 96
"""Bytes between two frames, other than tags and padding, that cannot be what is left of a frame."""
MOST_PARTS = 1000
"""Changes of the rate or the channels that are followed."""
SHORT_SECONDS = 0.1
"""Seconds that may be missing at the end, because no word is lost with them."""

_RATES = (44_100, 48_000, 32_000)
_KBPS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""(MPEG-1, layer) -> kbit/s of the indices 1 to 14 (ISO/IEC 11172-3 and 13818-3)."""
_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)

_ZEROS = re.compile(rb"\0*")
_SYNC = re.compile(rb"\xff[\xe2-\xff]")


@dataclass(frozen=True)
class _Frame:
    size: int
    samples: int
    rate: int
    side: tuple[int, int] = (0, 0)
    """Bytes of side information of stereo and mono, behind which an Info frame has its name."""
    channels: int = 0
    """As ADTS states them."""


@lru_cache(maxsize=4096)
def _mp3(second: int, third: int) -> _Frame | None:
    """Two bytes of a header of MPEG audio -> its frame; None if it is none, or of the rare kind without a bit rate."""
    version, layer, kbps, rate = (second >> 3) & 3, 4 - ((second >> 1) & 3), third >> 4, (third >> 2) & 3
    if second & 0xE0 != 0xE0 or version == 1 or layer == 4 or kbps in (0, 15) or rate == 3:
        return None
    first = version == 3
    hertz = _RATES[rate] // (1 if first else 2 if version == 2 else 4)
    bits = _KBPS[first, layer][kbps - 1] * 1000
    samples = 384 if layer == 1 else 1152 if layer == 2 or first else 576
    unit = 4 if layer == 1 else 1
    size = (samples // 8 // unit * bits // hertz + ((third >> 1) & 1)) * unit
    return _Frame(size, samples, hertz, (0, 0) if layer != 3 else (32, 17) if first else (17, 9))


def _mp3_frame(data: bytes, at: int) -> _Frame | None:
    return _mp3(data[at + 1], data[at + 2]) if at + 4 <= len(data) and data[at] == 0xFF else None


def _adts_frame(data: bytes, at: int) -> _Frame | None:
    if at + 7 > len(data) or data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0:
        return None
    size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    rate = (data[at + 2] >> 2) & 15
    if size < 7 or rate >= len(_ADTS_RATES):
        return None
    channels = (data[at + 2] & 1) << 2 | data[at + 3] >> 6
    return _Frame(size, 1024 * ((data[at + 6] & 3) + 1), _ADTS_RATES[rate], channels=channels)


def frames_layout(data: bytes, kind: str) -> Layout | None:
    """Parts and length of a file of `kind` mp3 or aac; None if no frame is found, or frames of unknown size.

    Raises ClipError audio_unreadable for damage in the middle.
    """
    walk = _Walk(data, _mp3_frame if kind == "mp3" else _adts_frame)
    walk.run()
    if not walk.ranges:
        return None
    unsure = "it ends inside a frame" if walk.cut and not walk.stated else ""
    # A decoder would take the first frame after a change for one of the kind before it.
    parts = tuple(Part(tuple(ranges), form=kind) for ranges in walk.kinds())
    if parts[0].ranges == ((0, len(data)),) or len(parts) > MOST_PARTS:
        parts = whole(data)
    # Decoders leave out the first frames of a file that was cut out of another, and what Info frames call padding.
    return Layout(parts, walk.seconds, walk.missing, unsure, allowed=Fraction(1, 2))


class _Walk:
    """From frame to frame."""

    def __init__(self, data: bytes, frame: Callable[[bytes, int], _Frame | None]) -> None:
        self._data, self._frame = data, frame
        self.ranges: list[tuple[int, int]] = []
        """Runs of whole frames."""
        self._changes: list[int] = []
        """Where the rate or the channels change."""
        self.cut = self.stated = False
        """Whether the file ends inside a frame; whether an Info frame states a number of frames."""
        self.missing = ""
        """What shows that frames are missing."""
        self._ended, self._run, self._rate = Fraction(0), 0, 1
        self._promised = 0
        """Samples that the last Info frame states."""

    @property
    def seconds(self) -> Fraction:
        """Length of all frames up to now, without the Info frames."""
        return self._ended + Fraction(self._run, self._rate)

    def kinds(self) -> list[list[tuple[int, int]]]:
        """The runs of frames, together as long as rate and channels stay the same."""
        found: list[list[tuple[int, int]]] = [[]]
        changes = list(self._changes)
        for start, stop in self.ranges:
            while changes and changes[0] < stop:
                change = max(start, changes.pop(0))
                if change > start:
                    found[-1].append((start, change))
                found.append([])
                start = change
            found[-1].append((start, stop))
        return [ranges for ranges in found if ranges]

    def run(self) -> None:
        """Go through the file. Raises ClipError audio_unreadable."""
        data, at, start, before = self._data, 0, -1, 0
        kind: object = None
        while at < len(data):
            frame = self._frame(data, at)
            if frame is None:
                at, before = self._over(start, before, at), -1
                start = -1
                continue
            start = at if start < 0 else start
            before = at
            mono = frame.side[0] > 0 and data[at + 3] >= 0xC0
            if (frame.rate, frame.channels, mono) != kind:
                if kind is not None:
                    self._changes.append(at)
                kind = (frame.rate, frame.channels, mono)
            at += frame.size
            if at > len(data):
                self.cut = True
            elif not self._is_info(before, frame):
                if frame.rate != self._rate:
                    self._ended, self._run, self._rate = self.seconds, 0, frame.rate
                self._run += frame.samples
        if start >= 0:
            self.ranges.append((start, min(at, len(data))))
        self._check_promise()

    def _over(self, start: int, before: int, at: int) -> int:
        """Skip what is not a frame at `at`; the run of frames began at `start`, and its last frame at `before`."""
        data, end = self._data, at
        if start >= 0 and before > start and (tag := data.find(b"ID3", before + 4, at)) >= 0:
            end, at = before, tag  # the last frame was cut before the next file was appended
        at, zeros = self._skip_tags(at)
        if at < len(data) and self._frame(data, at) is None:
            found = self._next(before + 4 if start >= 0 and end == at else at)
            if found is not None and (start >= 0 or self.ranges) and (found - at > STRAY or (zeros and found > at)):
                raise ClipError(
                    "audio_unreadable",
                    f"the audio is damaged at about {float(self.seconds):.2f} s: {found - end:,} bytes there are no "
                    "audio; export the file again, or upload it again",
                )
            end = before if found is not None and found < end else end
            self.cut = self.cut or (found is None and data[at] == 0xFF and len(data) - at < STRAY)
            at = len(data) if found is None else found
        if end > start >= 0:
            self.ranges.append((start, end))
        return at

    def _skip_tags(self, at: int) -> tuple[int, bool]:
        """-> (end of the tags and zeros that start at a byte, whether many zeros were the last of them)."""
        data, zeros = self._data, False
        while at < len(data):
            match = _ZEROS.match(data, at)
            assert match is not None
            head = data[at : at + 32]
            if match.end() > at:
                zeros, size = match.end() - at >= STRAY, match.end() - at
            elif head.startswith(b"ID3") and len(head) >= 10 and max(head[6:10]) < 128:
                size = 10 + sum(byte << 7 * (3 - i) for i, byte in enumerate(head[6:10])) + 10 * bool(head[5] & 16)
                zeros = False
            elif head.startswith(b"APETAGEX"):
                size, zeros = 32 + int.from_bytes(head[12:16], "little"), False
            elif head.startswith(b"LYRICSBEGIN"):
                ends = [data.find(mark, at) for mark in (b"LYRICS200", b"LYRICSEND")]
                size, zeros = min((end + 9 - at for end in ends if end >= 0), default=len(data)), False
            elif head.startswith(b"TAG"):
                size, zeros = 227 if head.startswith(b"TAG+") else 128, False
            else:
                break
            at += size
        return min(at, len(data)), zeros

    def _next(self, at: int) -> int | None:
        """The next place where two frames of one kind follow each other."""
        for match in _SYNC.finditer(self._data, at):
            here = match.start()
            first = self._frame(self._data, here)
            if first is None:
                continue
            second = self._frame(self._data, here + first.size)
            if second is not None and (second.rate, second.samples) == (first.rate, first.samples):
                return here
        return None

    def _is_info(self, at: int, frame: _Frame) -> bool:
        """Whether this is an Info or VBRI frame, which states how many frames follow it."""
        if not frame.side[0]:
            return False
        data = self._data
        name = at + 4 + frame.side[data[at + 3] >> 6 == 3]
        if data[name : name + 4] in (b"Info", b"Xing"):
            number = int.from_bytes(data[name + 8 : name + 12], "big") if data[name + 7] & 1 else 0
        elif data[at + 36 : at + 40] == b"VBRI":
            number = int.from_bytes(data[at + 50 : at + 54], "big")
        else:
            return False
        self._check_promise()
        self._ended, self._run, self._rate = self.seconds, 0, frame.rate
        self._promised, self.stated = number * frame.samples, True
        return True

    def _check_promise(self) -> None:
        short = self._promised - self._run
        if self._promised and short > SHORT_SECONDS * self._rate and not self.missing:
            self.missing = (
                f"its header declares {self._promised / self._rate:.2f} s, but {self._run / self._rate:.2f} s are there"
            )
        self._promised = 0
