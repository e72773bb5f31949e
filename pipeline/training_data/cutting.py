"""Accepted candidates -> samples: a second pass over the video cuts their crops and encodes them.

There are two passes because the crop is fixed for a whole sample and known only after its last frame. Keeping the
frames until then would take 15 s of full-size frames in memory, or scaling them twice. Decoding is the smaller part of
the work.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np

from models import MOTION_FPS
from models.pixels import to_tensor
from pipeline.face.crop import crop_square
from pipeline.measure.syncnet import SyncNet, cut_face
from pipeline.media.h264 import set_up_h264
from pipeline.media.planes import rgb_to_yuv420
from pipeline.media.settings import VideoSettings
from pipeline.training_data.candidates import Candidate
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.shards import COMPONENTS as NAMES
from pipeline.training_data.source_video import SourceVideo
from pipeline.training_data.track import BOX, COMPONENTS, POSE, thumbnail

Box = tuple[float, float, float, float]


class ClipWriter:
    """Encodes square frames (S,S,3) uint8 as MP4 in memory: H.264, yuv420p, BT.709, 25 fps, with many key frames."""

    def __init__(self, settings: ClipSettings) -> None:
        self._buffer = io.BytesIO()
        self._file = av.open(self._buffer, "w", format="mp4")
        self._stream = self._file.add_stream("libx264", rate=MOTION_FPS)
        video = VideoSettings(fps=str(MOTION_FPS), speed="medium")
        video.crf = settings.crf  # may be 0, which a delivery may not: only training reads these files
        set_up_h264(self._stream.codec_context, "libx264", video, settings.size)
        self._stream.codec_context.gop_size = settings.keyframe_every
        self._number = 0

    def write(self, rgb: np.ndarray) -> None:
        """Append a frame."""
        frame = av.VideoFrame.from_ndarray(rgb_to_yuv420(to_tensor(rgb))[0].numpy(), format="yuv420p")
        frame.pts, frame.time_base = self._number, Fraction(1, MOTION_FPS)
        self._number += 1
        self._file.mux(self._stream.encode(frame))

    def close(self) -> bytes:
        """The finished file."""
        self._file.mux(self._stream.encode(None))
        self._file.close()
        return self._buffer.getvalue()


@dataclass(eq=False)
class Cut:
    """The result of the second pass for one candidate."""

    video: bytes = b""
    thumbnail: bytes = b""
    """JPEG of the crop in the middle of the sample."""
    faces: list[np.ndarray] = field(default_factory=list)
    """Inputs of SyncNet, (3,224,224) uint8 each."""


def cut(
    source: SourceVideo, wanted: Iterable[tuple[Candidate, Box]], settings: ClipSettings, network: SyncNet | None
) -> Iterator[Cut]:
    """Yield one result for each (candidate, crop box in the source), which are sorted by time and do not overlap."""
    pictures = source.pictures()
    for candidate, box in wanted:
        assert candidate.faces is not None
        made, writer = Cut(), ClipWriter(settings)
        for number, picture in pictures:
            if number < candidate.first:
                continue
            crop = crop_square(picture.rgb, box, settings.size, scale=1.0)
            writer.write(crop)
            if number == (candidate.first + candidate.last) // 2:
                made.thumbnail = thumbnail(crop)
            if network is not None:
                left, top, right, bottom = candidate.faces[number - candidate.first, BOX].tolist()
                half = max(right - left, bottom - top) / 2
                made.faces.append(cut_face(picture.rgb, ((left + right) / 2, (top + bottom) / 2), half))
            if number == candidate.last - 1:
                break
        made.video = writer.close()
        yield made


def pose_in(faces: np.ndarray, box: Box) -> np.ndarray:
    """Face rows (T,WIDTH) in the source -> `head_pose` (T,6) float32 in the crop."""
    left, top, right, _ = box
    poses = faces[:, POSE].astype(np.float64)
    side = right - left
    poses[:, 3] = (poses[:, 3] + 0.5 - left) / side - 0.5
    poses[:, 4] = (poses[:, 4] + 0.5 - top) / side - 0.5
    poses[:, 5] /= side
    return poses.astype(np.float32)


def components_in(faces: np.ndarray, box: Box) -> np.ndarray:
    """The same -> boxes of both eyes and the mouth (T,3,4) float32, as shares of the crop's side and inside of it."""
    left, top, right, _ = box
    boxes = faces[:, COMPONENTS].astype(np.float64).reshape(-1, len(NAMES), 4)
    shares = (boxes - (left, top, left, top)) / (right - left)
    return shares.clip(0, 1).astype(np.float32)
