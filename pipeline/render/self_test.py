"""The test of a worker before it gets work: an unfit one must fail here, and not with clips."""

import numpy as np
import torch

from models import EMOTIONS
from models.config import POSE_DIM
from pipeline.manifest.settings import ClipDefaults
from pipeline.render.continuous_batching import MotionInputs, MotionSlots
from pipeline.render.model_runner import ModelRunner

NFE = {"dopri5": 1000}
"""Evaluations per solver: for dopri5 an upper limit, which is not reached."""
FEW = 4
"""A number of evaluations that all other solvers can spend."""


def check_fit(runner: ModelRunner, slots: MotionSlots, solver: str) -> None:
    """Encode a grey portrait, sample one window of its motion in silence, and decode the first frame.

    Raises RuntimeError for motion that is not finite and for a black frame, and whatever a device raises that does not
    work.
    """
    config = runner.model.config
    portrait = runner.portrait(np.full((config.image_size, config.image_size, 3), 128, np.uint8))
    speech = np.zeros((config.window, slots.speech_dim), np.float32)
    pose = None if config.pose == "none" else np.zeros((config.window, POSE_DIM), np.float32)
    emotion = np.zeros(len(EMOTIONS), np.float32)
    nfe = NFE.get(solver, FEW)
    usual = ClipDefaults()  # other scales would need another compiled module
    scales = (usual.a_cfg_scale, usual.e_cfg_scale, usual.r_cfg_scale)
    slots.admit(MotionInputs(speech, emotion, portrait.motion[0], scales, seed=0, nfe=nfe, pose=pose))
    (advance,) = slots.advance()
    slots.release(advance.slot)
    if advance.error is not None:
        raise advance.error
    assert advance.motion is not None
    if not torch.isfinite(advance.motion).all():
        raise RuntimeError("this worker computes motion that is not finite: check the health of its device")
    for frames in runner.frames(portrait, advance.motion[:1]):
        if not frames.any():
            raise RuntimeError("this worker decodes black frames: check the health of its device")
    runner.forget_portraits()
