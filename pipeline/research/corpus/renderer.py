"""Frames of a talking head, drawn by OpenGL without a display; Mesa's software renderer is sufficient.

The result looks like a character of a game and not like a photograph: hair does not swing, and the torso does not
breathe.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.face.crop import SCALE
from pipeline.research.corpus.extras import Extras
from pipeline.research.corpus.head import Head, posed, shift
from pipeline.research.corpus.look import Look
from pipeline.research.corpus.normals import Normals
from pipeline.research.corpus.scene import DISTANCE, Scene
from pipeline.training_data.track import EYE_SIDE, MOUTH_SIDE

SIZES = (128, 256, 512)
"""Possible side lengths of a frame, px."""

_CHUNK = 64  # frames whose vertices are computed at once


@dataclass(frozen=True, eq=False)
class RenderedClip:
    """The drawn frames and their ground truth."""

    frames: np.ndarray
    """(T,S,S,3) uint8 RGB."""
    components: np.ndarray
    """(T,3,4) float32: boxes of right eye, left eye and mouth (`pipeline.training_data.shards.COMPONENTS`; left, top,
    right, bottom in shares of the side). Squares of the sides that `jobs.prepare` cuts, in distances of the outer
    corners of the eyes, around the projected middles of the front of the eyeball and of the lips."""
    pose: np.ndarray
    """(T,6) float32: what `pipeline.face.head_pose.head_pose` measures, by the rig: the rotation as it was asked for,
    the middle of the face from the picture's middle and the distance of the outer corners of the eyes, in shares of
    the side."""


class Renderer:
    """Draws one person. Create it in the process that uses it; several of them share the context of that process.

    One thread of Mesa's llvmpipe (LP_NUM_THREADS=1) on a virtual AMD EPYC draws about 30, 14 and 5 frames per second of
    processor time at 128, 256 and 512 px, and takes 0.15 s for a new person.
    """

    def __init__(self, head: Head, look: Look, size: int) -> None:
        if size not in SIZES:
            raise ValueError(f"size must be one of {SIZES}, got {size}")
        self.head, self.look, self.size = head, look, size
        self._mesh = head.mesh
        self._smooth = Normals(self._mesh)
        self._lips = np.flatnonzero(self._mesh.lips)
        self._extras = Extras(head, look)
        self._scene = Scene(head, look, size, self._smooth, self._extras)

    def render(self, action_units: np.ndarray, pose: np.ndarray, gaze: np.ndarray) -> RenderedClip:
        """Frames for action units (T,52) in [0,1], in the order of `ARKIT`, with pose and gaze.

        The pose (T,6) is in the form of `Head.vertices`, and the gaze (T,2) in radians: to the right of the image and
        up, relative to the head.
        """
        frames = np.empty((len(action_units), self.size, self.size, 3), np.uint8)
        components = np.empty((len(action_units), 3, 4), np.float32)
        poses_seen = np.empty((len(action_units), 6), np.float32)
        self._scene.begin()
        for start in range(0, len(frames), _CHUNK):
            part = slice(start, start + _CHUNK)
            units, poses, looks = action_units[part], pose[part], gaze[part]
            vertices = self.head.vertices(units, poses)
            normals = self._smooth(vertices)
            extra = self._extras.placed(units, poses, vertices)
            components[part], poses_seen[part] = self._truth(vertices, poses)
            corners = np.concatenate([vertices, normals], axis=2)[:, self._mesh.corners]
            for i, frame in enumerate(frames[part]):
                frame[:] = self._scene.draw(np.concatenate([corners[i], extra[i]]), poses[i], looks[i])
        return RenderedClip(frames, components, poses_seen)

    def _truth(self, vertices: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`components` and `pose` of a RenderedClip."""
        eyes = self.head.eyes + np.array([0, 0, self._mesh.eye_radius], np.float32)
        points = np.concatenate([eyes, [[0, 0, eyes[0, 2]]]])  # and the middle of the face, in the same plane
        points = posed(np.broadcast_to(points, (len(pose), *points.shape)), pose) + shift(pose)[:, None]
        seen = _seen(points)
        centres = np.concatenate([seen[:, :2], _extent_middle(_seen(vertices[:, self._lips]))[:, None]], axis=1)
        # The outer corners of the lids lie an eyeball's radius outside of the eyes' centres.
        apart = 2 * (self.head.eyes[1, 0] + self._mesh.eye_radius) * _enlarged(points[:, 2]) / SCALE
        half = np.array([EYE_SIDE, EYE_SIDE, MOUTH_SIDE])[None, :, None] * apart[:, :, None] / 2
        boxes = np.concatenate([centres - half, centres + half], axis=2)
        return boxes, np.concatenate([pose[:, :3], seen[:, 2] - 0.5, apart], axis=1)


def _enlarged(points: np.ndarray) -> np.ndarray:
    """(..., 1) how much larger perspective draws what is at points (..., 3), compared with the origin."""
    return DISTANCE / (DISTANCE - points[..., 2:])


def _seen(points: np.ndarray) -> np.ndarray:
    """Points (..., 3) in head sizes -> positions (..., 2) in the frame, as shares of its side, y down."""
    return 0.5 + points[..., :2] * _enlarged(points) * np.array([1, -1]) / SCALE


def _extent_middle(points: np.ndarray) -> np.ndarray:
    return (points.min(axis=1) + points.max(axis=1)) / 2
