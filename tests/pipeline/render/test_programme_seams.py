"""How large the step between two clips of a programme is, beside the steps inside one clip: in motion, with the bundled
model, which was trained, and so goes on from the frames before.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models import SpeechWindow, load_float
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.model_runner import ModelRunner
from pipeline.render.motion_inputs import MotionInputs, MotionStart
from pipeline.render.speech_precision import open_speech_encoders
from pipeline.storage.model_cache import local_model
from tests import media
from tests.pipeline.render.test_continuation import motion_of

CUTS = (37, 110, 163, 200, 290)
"""Frames with which the clips end: none is the border of a window, which one clip has at 50, 100 ..."""
PREVIOUS = 10


def step(before, after):
    return float(np.linalg.norm(after[0] - before[-1]))


@pytest.mark.slow
def test_the_step_at_a_join_is_like_one_inside_a_clip_and_larger_where_a_clip_begins_anew():
    """Measured: 13.8 to 15.8 at joins, 15.0 to 17.7 at the borders of windows, 17.6 to 21.5 where clips begin anew."""
    model, window = local_model("pocket"), SpeechWindow(60.0, 1.0)
    samples, _ = media.speech()
    wave = torch.from_numpy(np.tile(samples[0], 3))[None].float()
    speech = open_speech_encoders(model, "cpu", "float32", window).speech(wave, window)[0].numpy()[: CUTS[-1]]
    slots = MotionSlots(ModelRunner(load_float(model)), 1)
    calm = np.eye(7, dtype=np.float32)[3]
    whole = MotionInputs(speech, calm, torch.zeros(slots.speech_dim), (2.0, 1.0, 1.0), 5, 10)
    one = motion_of(slots, whole).numpy()
    borders = [step(one[:end], one[end:]) for end in range(50, len(one), 50)]
    joins, anew = [], []
    done, windows = np.zeros((0, slots.speech_dim), np.float32), 0
    for end in CUTS:
        at = len(done)
        part = replace(whole, speech=speech[at:end])
        start = None
        if at:
            pose = np.zeros((PREVIOUS, 6), np.float32)
            start = MotionStart(done[-PREVIOUS:], speech[at - PREVIOUS : at], pose, windows)
        motion = motion_of(slots, replace(part, start=start)).numpy()
        if at:
            joins.append(step(done, motion))
            anew.append(step(done, motion_of(slots, part).numpy()))
        done, windows = np.concatenate([done, motion]), windows + -(-len(motion) // 50)
    assert np.mean(joins) < 1.05 * np.mean(borders)
    assert max(joins) < max(borders) < np.mean(anew)
    assert min(anew) > max(joins)
