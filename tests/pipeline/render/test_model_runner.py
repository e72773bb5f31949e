"""Plain, fast and compiled ways of computing give the same portraits, motion and frames."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models import load_float
from models.flow import guidance_branches
from pipeline.common.limits import Limits
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.settings import ClipDefaults
from pipeline.render import model_runner, self_test
from pipeline.render.continuous_batching import MotionInputs, MotionSlots
from pipeline.render.engine import Engine
from pipeline.render.feature_stage import FeatureStage
from pipeline.render import variants
from pipeline.render.model_runner import ModelRunner
from pipeline.render.variants import choose_mode
from pipeline.render.settings import EngineSettings, FeatureSettings
from tests import media
from tests.running import results
from tests.tiny import save_tiny_model

SCALES = [(3.0, 2.0, 1.0), (2.0, 1.5, 1.0), (2.0, 1.0, 1.0)]
POSE = 0.3 * np.sin(np.arange(70)[:, None] / 25 + np.arange(6), dtype=np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a model with head poses."""
    return save_tiny_model(tmp_path_factory.mktemp("posed") / "model", pose="head")


@pytest.fixture(scope="module")
def model(folder):
    return load_float(folder)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def run(computer, pixels, clips=3):
    """Motion and frames of three clips, or of the first of them among free slots."""
    generator = torch.Generator().manual_seed(0)
    speech = torch.randn(3, 70, 16, generator=generator).numpy()
    emotion = torch.rand(3, 7, generator=generator).numpy()
    portraits = [computer.portrait(image) for image in pixels[:clips]]
    slots = MotionSlots(computer, 3, solver="midpoint")
    motion = [[] for _ in portraits]
    for i, portrait in enumerate(portraits):
        slots.admit(MotionInputs(speech[i], emotion[i], portrait.motion[0], SCALES[i], seed=5 + i, nfe=4, pose=POSE))
    while len(slots.free) < 3:
        for advance in slots.advance():
            motion[advance.slot].append(advance.motion)
    motion = [torch.cat(windows) for windows in motion]
    frames = [np.concatenate(list(computer.frames(*pair))) for pair in zip(portraits, motion, strict=True)]
    return torch.stack(motion), np.stack(frames)


def make(model, mode, weights="", cache=None, **sizes):
    return ModelRunner(model, mode=mode, weights=weights, cache=cache, **({"frame_batch": 16} | sizes))


def test_the_fast_way_gives_what_the_plain_one_gives(model, pixels):
    motion, frames = run(make(model, "reference"), pixels)
    fast_motion, fast_frames = run(make(model, "eager"), pixels)
    assert motion.shape == (3, 70, 16)
    assert frames.shape == (3, 70, 48, 32)
    torch.testing.assert_close(fast_motion, motion, atol=1e-4, rtol=1e-4)
    assert np.abs(frames.astype(int) - fast_frames).max() <= 1  # rounding to 8 bits


@pytest.mark.slow
def test_the_compiled_way_gives_what_the_plain_one_gives(folder, model, pixels, tmp_path, monkeypatch):
    """In a full batch, in one that is filled up, and in the engine, which finds the code that is compiled by then.

    Head poses go into conditions, which are not compiled: a model without them has the same code.
    """
    monkeypatch.setenv("FLOATCAST_CACHE", str(tmp_path))
    packages = tmp_path / "compiled"
    for clips in (3, 1):
        motion, frames = run(make(model, "reference"), pixels, clips)
        fast_motion, fast_frames = run(make(model, "compiled", folder.hash, packages), pixels, clips)
        torch.testing.assert_close(fast_motion, motion, atol=1e-4, rtol=1e-4)
        assert np.abs(frames.astype(int) - fast_frames).max() <= 1
    compiled = sorted(packages.glob("*.pt2"))
    assert [path.name.split("-")[0] for path in compiled] == ["FastField", "YuvDecoder"]

    video = media.lossless()
    clip = replace(read_manifest(str(media.DEMO.parent / "manifest.jsonl")).clips[1], e_cfg_scale=1.5, nfe=4)
    item = results(FeatureStage(str(folder.path), FeatureSettings(), Limits(), video), [clip])[0]
    item = replace(item, speech=item.speech[:70], pose=POSE, frames=70)
    found = []
    # The worker's own test then needs the same module as the clip.
    monkeypatch.setattr(self_test, "ClipDefaults", lambda: ClipDefaults(e_cfg_scale=1.5))
    for mode in ("reference", "compiled"):
        settings = EngineSettings(device="cpu", mode=mode, slots=3, frame_batch=16)
        row = next(iter(Engine(folder, settings, video, Ledger(str(tmp_path / mode))).process([item])))
        assert row["status"] == "done", row
        found.append(media.planes(row["uri"]).astype(int))
    assert np.abs(found[0] - found[1]).max() <= 1
    assert sorted(packages.glob("*.pt2")) == compiled


def test_a_clip_does_not_depend_on_what_is_computed_with_it(model, pixels):
    together, frames = run(make(model, "eager"), pixels)
    alone, frame = run(make(model, "eager", frame_batch=7), pixels, clips=1)
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)
    assert np.abs(frames[:1].astype(int) - frame).max() <= 1


def test_a_portrait_is_encoded_once_and_the_oldest_is_forgotten(model, pixels):
    computer = make(model, "eager", portraits=2)
    first = computer.portrait(pixels[0])
    assert computer.portrait(pixels[0].copy()) is first  # by content
    computer.portrait(pixels[1])
    assert computer.portrait(pixels[0]) is first  # used again: now the second is the oldest
    third = computer.portrait(pixels[2])
    assert computer.portrait(pixels[0]) is first
    assert computer.portrait(pixels[2]) is third
    again = computer.portrait(pixels[1])
    assert computer.portrait(pixels[0]) is not None
    assert not torch.equal(again.identity, first.identity)


def test_branches_that_a_batch_does_not_need_are_not_computed(model, pixels):
    assert len(guidance_branches(*torch.ones(3, 1))) == 1
    computer = make(model, "eager")
    run(computer, pixels)
    assert [len(kept) for kept in computer._fields] == [3]


def test_auto_compiles_only_where_it_pays(monkeypatch):
    monkeypatch.setattr(model_runner, "has_compiler", lambda: True)
    assert choose_mode("auto", gpus=0, seconds=299) == "eager"
    assert choose_mode("auto", gpus=0, seconds=300) == "compiled"
    assert choose_mode("auto", gpus=1, seconds=1e6) == "eager"
    assert choose_mode("reference", gpus=0, seconds=1e6) == "reference"
    monkeypatch.setattr(model_runner, "has_compiler", lambda: False)
    assert choose_mode("auto", gpus=0, seconds=1e6) == "eager"


def test_an_unknown_mode_is_refused(model):
    with pytest.raises(ValueError, match="reference, eager or compiled"):
        make(model, "fast")
