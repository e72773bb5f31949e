"""The test of a worker before it gets clips: what does not work there fails there, whatever it is."""

import av
import pytest
import torch

from models import load_float
from pipeline.media.settings import VideoSettings
from pipeline.render import self_test
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.model_runner import ModelRunner
from pipeline.render.self_test import check_fit


@pytest.fixture
def runner(tiny_model):
    return ModelRunner(load_float(tiny_model), mode="eager", frame_batch=4)


def check(runner, **video):
    check_fit(runner, MotionSlots(runner, 2), "euler", VideoSettings(**video))


@pytest.mark.parametrize("fps", ["25", "30000/1001", "1", "120"])
def test_a_worker_that_works_passes_with_the_runs_own_video_settings_and_leaves_nothing(runner, fps, monkeypatch):
    verified, verify = [], self_test.verify_video

    def seen(path, **expected):
        with av.open(str(path)) as file:
            verified.append((path, file.streams.video[0].codec_context.name, sum(1 for _ in file.decode(video=0))))
        return verify(path, **expected)

    monkeypatch.setattr(self_test, "verify_video", seen)
    check(runner, fps=fps, crf=30, speed="ultrafast")
    ((path, codec, frames),) = verified
    assert (codec, frames) == ("h264", 4)
    assert not path.exists()
    assert not runner._known


def test_motion_that_is_not_finite_is_the_workers_failure(runner):
    sample = runner.sample
    runner.sample = lambda *inputs, **settings: sample(*inputs, **settings) * torch.nan
    with pytest.raises(RuntimeError, match="not finite: check the health of its device"):
        check(runner)


@pytest.mark.parametrize("value", [0, 16, 128])
def test_frames_without_a_picture_are_the_workers_failure(runner, value):
    decode = runner._decode
    runner._decode = lambda *inputs: torch.full_like(decode(*inputs), value)
    with pytest.raises(RuntimeError, match="a single colour: check the health"):
        check(runner)


def test_an_error_of_the_device_is_the_workers_failure(runner):
    def fails(*inputs):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    runner._decode = fails
    with pytest.raises(RuntimeError, match="no kernel image"):
        check(runner)


def test_a_file_that_cannot_be_written_is_the_workers_failure(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(self_test.tempfile, "TemporaryDirectory", lambda prefix: Folder(tmp_path / "missing"))
    with pytest.raises(RuntimeError, match=r"cannot deliver a test video: .*check the disk"):
        check(runner)


class Folder:
    """A folder that has gone."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        return self.path

    def __exit__(self, *error):
        pass


def test_a_file_that_lost_frames_is_the_workers_failure(runner, monkeypatch):
    write = self_test.VideoWriter.write
    monkeypatch.setattr(self_test.VideoWriter, "write", lambda writer, frames: write(writer, frames[1:]))
    with pytest.raises(RuntimeError, match="this worker cannot deliver a test video: the file has 3 frames"):
        check(runner)
