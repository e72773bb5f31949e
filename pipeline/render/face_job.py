"""What the engine holds for each animated face of a clip, and how the frames of several faces are decoded together.

A clip of one face has one of these. Several faces of one picture are as many clips for the sampler, each with its own
slot, speech and noise. Their windows are equally long, and each is sampled once in every round, so that their frames
meet there and are put into the picture together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models import Portrait
from pipeline.media.pixel_layout import PixelLayout
from pipeline.render.face_features import FaceFeatures
from pipeline.render.model_runner import ModelRunner
from pipeline.render.motion_inputs import MotionInputs, MotionStart
from pipeline.render.motion_resampler import MotionResampler
from pipeline.render.mouth import RestingMouth


@dataclass(eq=False)
class FaceJob:
    """One face of a clip in work."""

    portrait: Portrait
    resampler: MotionResampler
    mouth: RestingMouth | None = None
    """What puts its mouth to rest in pauses; None if they are left to the model."""
    waiting: list[Tensor] = field(default_factory=list)
    """Motion latents (n,D) whose frames are not decoded yet."""
    windows: int = 0
    """Number of windows that were sampled."""
    ended: bool = False

    def take(self, motion: Tensor, *, last: bool) -> None:
        """Take the motion latents (n,D) of the next window."""
        self.waiting.append(self.resampler.push(motion if self.mouth is None else self.mouth(motion)))
        self.windows += 1
        self.ended = last


def motion_inputs(face: FaceFeatures, portrait: Portrait, start: MotionStart | None) -> MotionInputs:
    """What the motion of a face is sampled from."""
    clip = face.part
    scales = clip.a_cfg_scale, clip.e_cfg_scale, clip.r_cfg_scale
    motion = portrait.motion[0]
    return MotionInputs(face.speech, face.emotion, motion, scales, clip.seed, clip.nfe, face.pose, face.track, start)


def in_step(faces: Mapping[int, FaceJob]) -> bool:
    """Whether the same windows of all faces were sampled."""
    return len({face.windows for face in faces.values()}) == 1


def decoded_together(faces: Mapping[int, FaceJob], runner: ModelRunner, layout: PixelLayout | None) -> Iterator[Tensor]:
    """The next frames of a clip in full batches, and all that is left at its end: planes (n,rows,S) of one face, or
    (faces,n,rows,S) of several, in this layout (`ModelRunner.decoded`).
    """
    every = list(faces.values())
    motions = [torch.cat(face.waiting) for face in every]
    count = len(motions[0])
    whole = count if every[0].ended else count - count % runner.frame_batch
    for face, motion in zip(every, motions, strict=True):
        face.waiting = [motion[whole:]]
    if len(every) == 1:
        yield from runner.decoded(every[0].portrait, motions[0][:whole], layout)
        return
    start = 0
    while start < whole:
        end = min(whole, start + runner.frame_batch)  # which may become smaller where memory is short
        yield torch.stack(
            [
                torch.cat(list(runner.decoded(face.portrait, motion[start:end], layout)))
                for face, motion in zip(every, motions, strict=True)
            ]
        )
        start = end
