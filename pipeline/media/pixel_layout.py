"""How the planes of a delivered picture lie in memory, without PyTorch, which what only reads videos need not load.

BT.709 matrix (ITU-R BT.709-6, items 3.2 to 3.5) in limited range. A frame is one array whose rows are as wide as the
picture, with its planes one after another: Y', Cb, Cr and, in layouts that have it, alpha.
"""

from dataclasses import dataclass

import av
import numpy as np


@dataclass(frozen=True)
class PixelLayout:
    """A planar pixel format in BT.709, limited range. Alpha, which no standard limits, has the full range.

    Chroma is sited as the codecs' default has it: with half the columns at the left one of two (co-sited), with half
    the rows between two, and with neither at the luma samples.
    """

    name: str
    """FFmpeg's name of the pixel format."""
    horizontal: int
    """How many columns of luma share a sample of chroma: 1 or 2."""
    vertical: int
    """How many rows of luma share a sample of chroma: 1 or 2."""
    bits: int
    """Bits per sample: 8, or up to 15 in the low bits of 16."""
    alpha: bool = False
    """Whether a fourth plane says how opaque each pixel is."""

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """The type of a sample."""
        return np.uint8 if self.bits == 8 else np.uint16

    @property
    def white(self) -> int:
        """Luma of white, which is 235 in 8 bits."""
        return 235 << self.bits - 8

    def height(self, rows: int) -> int:
        """The height of the picture whose planes take this many rows."""
        return rows * self.horizontal * self.vertical // self._share

    def plane_rows(self, height: int) -> int:
        """How many rows, as wide as the picture, all planes of a picture take. Its sides must fit (`fits`)."""
        return height * self._share // (self.horizontal * self.vertical)

    def fits(self, width: int, height: int) -> bool:
        """Whether the sides are multiples of what chroma needs: of 2 with 4:2:0, any with 4:4:4."""
        return width % self.horizontal == 0 and height % self.vertical == 0

    def plane_sizes(self, width: int, height: int) -> list[tuple[int, int]]:
        """(height, width) of each plane."""
        chroma = height // self.vertical, width // self.horizontal
        return [(height, width), chroma, chroma, *([(height, width)] if self.alpha else [])]

    def split(self, planes: np.ndarray) -> list[np.ndarray]:
        """Views of the planes of one frame (rows,W): Y', Cb, Cr and alpha, each (h,w)."""
        rows, width = planes.shape
        samples, views, start = planes.reshape(-1), [], 0
        for h, w in self.plane_sizes(width, self.height(rows)):
            views.append(samples[start : start + h * w].reshape(h, w))
            start += h * w
        return views

    @property
    def _share(self) -> int:
        """Samples per group of `horizontal` x `vertical` pixels."""
        group = self.horizontal * self.vertical
        return group + 2 + (group if self.alpha else 0)


YUV420P = PixelLayout("yuv420p", 2, 2, 8)
YUV420P10 = PixelLayout("yuv420p10le", 2, 2, 10)
YUV422P = PixelLayout("yuv422p", 2, 1, 8)
YUV422P10 = PixelLayout("yuv422p10le", 2, 1, 10)
YUV444P10 = PixelLayout("yuv444p10le", 1, 1, 10)
YUVA444P10 = PixelLayout("yuva444p10le", 1, 1, 10, alpha=True)

BY_NAME = {one.name: one for one in (YUV420P, YUV420P10, YUV422P, YUV422P10, YUV444P10, YUVA444P10)}


def video_frame(planes: np.ndarray, layout: PixelLayout) -> av.VideoFrame:
    """One frame (rows,W) of `planes.to_planes` as FFmpeg takes it; it may share the array's memory."""
    rows, width = planes.shape
    height = layout.height(rows)
    if layout.plane_rows(height) != rows or not layout.fits(width, height):
        raise ValueError(f"{rows} rows of {width} samples are no picture in {layout.name}")
    if layout == YUV420P and height % 4 == 0:
        # Not a copy: the encoder makes its own, without holding the interpreter lock as NumPy would.
        return av.VideoFrame.from_numpy_buffer(planes, format=layout.name)
    frame = av.VideoFrame(width, height, layout.name)
    for target, source in zip(frame.planes, layout.split(planes), strict=True):
        lines = np.frombuffer(memoryview(target), source.dtype).reshape(-1, target.line_size // source.itemsize)
        lines[: source.shape[0], : source.shape[1]] = source
    return frame
