"""SyncNet without its weights, which are not ours to ship: arithmetic, definition, and a file like theirs."""

import io
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from pipeline.common.options import SettingError
from pipeline.measure.metrics import METRICS
from pipeline.measure.syncnet import SyncNet, lip_sync_error, load_syncnet, mfcc
from pipeline.qc.judge import Judge
from tests.synthetic_videos import SyntheticVideo, speech

GOLDEN = Path(__file__).parents[2] / "data" / "mfcc_golden.npy"


def test_cepstra_are_those_of_python_speech_features():
    wave = (speech(2.0) * 2**15).astype(np.int16)
    assert mfcc(wave).shape == (199, 13)
    np.testing.assert_allclose(mfcc(wave)[::20], np.load(GOLDEN), atol=1e-4)
    assert mfcc(wave[:0]).shape == (0, 13)


@pytest.mark.parametrize("shift", [-9, 0, 4, 15])
def test_offset_distance_and_confidence_by_their_definition(shift):
    lips = torch.randn(60, 1024, generator=torch.Generator().manual_seed(0))
    sound = torch.roll(lips, -shift, dims=0)
    distance, confidence, offset = lip_sync_error(lips, sound)
    assert offset == shift
    # Beyond the ends there are zeros, at a distance of 32 from a random embedding; two of these are 45 apart.
    assert distance == pytest.approx(32 * abs(shift) / 60, rel=0.05, abs=0.01)
    assert 40 < distance + confidence < 46


def weights():
    """Random ones, by the names and shapes of the authors' file."""
    torch.manual_seed(0)
    buffer = io.BytesIO()
    torch.save(SyncNet().state_dict(), buffer)
    return buffer.getvalue()


def test_a_file_with_the_authors_names_and_shapes_loads():
    state = load_syncnet(weights()).state_dict()
    assert state["netcnnaud.0.weight"].shape == (64, 1, 3, 3)
    assert state["netcnnaud.18.weight"].shape == (512, 256, 5, 4)
    assert state["netcnnlip.0.weight"].shape == (96, 3, 5, 7, 7)
    assert state["netcnnlip.18.weight"].shape == (512, 256, 1, 6, 6)
    assert state["netfclip.3.weight"].shape == (1024, 512)
    other = io.BytesIO()
    torch.save({"netcnnaud.0.weight": torch.zeros(64, 1, 3, 3)}, other)
    with pytest.raises(SettingError, match=r"syncnet: the file does not contain SyncNet's weights"):
        load_syncnet(other.getvalue())


def test_the_same_as_safetensors_loads():
    state = SyncNet().state_dict()
    loaded = load_syncnet(safetensors.torch.save(state)).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.mark.slow
def test_a_video_gets_its_metrics_under_their_own_names(tmp_path):
    video = SyntheticVideo(wave=speech(1.4)).write(tmp_path / "film.mp4")
    found = Judge(syncnet=weights()).inspect(video)
    assert found.metrics["qc_lse_d"] > 0
    assert found.metrics["qc_lse_c"] >= 0
    assert abs(found.metrics["qc_lse_offset"]) <= 15
    without = Judge().inspect(video)
    assert not {"qc_lse_c", "qc_lse_d", "qc_lse_offset"} & set(without.metrics)
    assert [f.column for f in METRICS if "lse" in f.column] == ["qc_lse_c", "qc_lse_d", "qc_lse_offset"]
