"""The mouth at rest: found in the bundled model, closed in pauses and nowhere else, while head and lids go on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models import FLOAT, FloatConfig
from pipeline.api.model import open_model
from pipeline.common.errors import ClipError
from pipeline.face.detector import FaceDetector
from pipeline.face.head_pose import pose_of
from pipeline.manifest.silence import Pause, Silence
from pipeline.measure.face_track import mouth_opening
from pipeline.media.voice_activity import pauses
from pipeline.render import mouth_probe
from pipeline.render.mouth import Mouth, RestingMouth
from pipeline.render.mouth_probe import mouth_of
from pipeline.render.silence_track import muted, pauses_of, rest_track
from tests.tiny import CONFIG


def test_the_mouth_rests_inside_of_a_pause_only_and_comes_to_rest_smoothly():
    share = rest_track([(1.0, 2.0)], 75)
    assert np.flatnonzero(share)[[0, -1]].tolist() == [25, 49]
    assert share[28:47].tolist() == [1.0] * 19
    assert 0 < share[25] < share[26] < share[27] < 1
    np.testing.assert_allclose(share[25:50], share[25:50][::-1], atol=1e-6)
    # At the ends of the clip it is at rest already; in a short pause it comes near to it.
    ends = rest_track([(0.0, 0.4), (2.6, 2.97)], 75)
    assert (ends[0], ends[-1]) == (1, 1)
    assert 0.5 < rest_track([(1.0, 1.2)], 75).max() <= 1
    assert rest_track([], 75) is None
    assert rest_track([(1.001, 1.01)], 75) is None


def test_a_row_says_where_the_pauses_are_and_in_which_the_model_hears_silence():
    wave = np.random.default_rng(0).standard_normal(32_000).astype(np.float32) / 50
    whole = [(0.0, 2.0)]
    assert pauses(wave) == whole
    assert pauses_of(Silence("model"), wave) == ([], [])
    assert pauses_of(Silence("closed"), wave) == (whole, [])
    assert pauses_of(Silence("idle"), wave) == (whole, whole)
    spans = Silence("model", (Pause(0, 0.5, "model"), Pause(0.5, 1.0), Pause(1.5, 2.0, "idle")))
    assert pauses_of(spans, wave) == ([(0.5, 1.0), (1.5, 2.0)], [(1.5, 2.0)])
    heard = muted(wave, [(1.5, 2.0)])
    assert not heard[24_100:].any()
    assert np.array_equal(heard[:24_000], wave[:24_000])
    assert muted(wave, []) is wave


def test_motion_outside_of_pauses_is_the_same_bit_for_bit_whatever_the_windows():
    random = torch.Generator().manual_seed(0)
    motion = torch.randn(120, 16, generator=random)
    read = np.eye(16, dtype=np.float32)[0]
    mouth, share = Mouth(read, read, -2.0), rest_track([(1.9, 2.6)], 120)
    whole = RestingMouth(mouth, share)(motion)
    by_window = RestingMouth(mouth, share)
    assert torch.equal(torch.cat([by_window(part) for part in motion.split(50)]), whole)
    assert torch.equal(whole[share == 0], motion[share == 0])
    assert torch.equal(whole[:, 1:], motion[:, 1:])
    np.testing.assert_allclose(whole[share == 1, 0].numpy(), -2, atol=1e-6)


def test_a_model_that_shows_no_face_has_no_mouth(tmp_path):
    torch.manual_seed(0)
    with pytest.raises(ClipError, match="0% of the frames") as caught:
        mouth_of(FLOAT(CONFIG).eval(), "0", tmp_path)
    assert caught.value.code == "mouth_not_found"


@pytest.mark.slow
def test_the_released_architecture_has_its_mouth_in_latents_of_its_own_size(monkeypatch, tmp_path):
    """Random weights: shapes alone, with landmarks that are made up from the frames' own brightness."""
    torch.manual_seed(0)
    config = replace(FloatConfig(), channels=CONFIG.channels, window=4, previous=2, blocks=1)
    model = FLOAT(config).eval()
    monkeypatch.setattr(mouth_probe, "_measured", lambda frames, _: frames[:, :9, 0, 0].astype(float))
    found = mouth_of(model, "key", tmp_path)
    assert found.read.shape == found.write.shape == (config.latent_dim,)
    assert np.isfinite([*found.read, *found.write, found.rest]).all()
    again = mouth_of(None, "key", tmp_path)  # from the cache
    assert np.array_equal(again.read, found.read)
    assert again.rest == pytest.approx(found.rest)


@pytest.mark.slow
def test_the_bundled_model_closes_its_mouth_while_the_head_moves_on(bundled_mouth):
    model, detector = open_model("pocket", "cpu"), FaceDetector()
    mouth = mouth_of(None, model.folder.hash, bundled_mouth / "mouths")
    assert float(mouth.read @ mouth.write) == pytest.approx(1, abs=1e-3)
    portrait = model.encode_portrait("jobs/demo/media/portrait_2011.png")
    speech = model.speech_features("jobs/demo/media/speech_es_espeak.wav")
    motion = model.sample_motion(portrait, speech, seed=6)[:40]
    rested = mouth.resting(motion, torch.ones(len(motion)))

    def seen(latents):
        points = [detector.detect(frame)[0].landmarks for frame in model.decode(portrait, latents)]
        turns = [(pose.yaw, pose.pitch, pose.roll) for pose in map(pose_of, points)]
        return np.array(list(map(mouth_opening, points))), np.array(turns)

    (open_, turned), (closed, kept) = seen(motion), seen(rested)
    assert closed.std() < 0.5 * open_.std()
    assert closed.mean() < 0.6 * open_.mean()
    assert np.abs(kept - turned).mean() < 1.0  # degrees
    assert all(np.corrcoef(one, other)[0, 1] > 0.7 for one, other in zip(kept.T, turned.T, strict=True))
