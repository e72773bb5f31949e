"""Trials of engines that are right, of real half precision on trained weights, and of engines that lie and fail."""

import numpy as np
import pytest
import torch

from models import load_float
from pipeline.render.model_runner import ModelRunner
from pipeline.render.tuning import probe, trial
from pipeline.render.tuning.candidates import eager, plain
from pipeline.render.tuning.gate import EXACT
from pipeline.render.tuning.trial import Meter, Workbench
from pipeline.render.variants import Choice, Variant
from pipeline.storage.model_cache import POCKET, local_model

CPU = torch.device("cpu")
LYING = Choice(Variant("eager", layout="contiguous"), Variant("eager", layout="contiguous"), 4)
"""Marks the runner that a test makes wrong."""


class FakeMeter(Meter):
    """Each run takes a second by it, and the peak is what a test says."""

    def __init__(self, peak=0, available=0):
        super().__init__(CPU, available)
        self.bytes, self.runs, self.restarts = peak, 0, 0

    def time(self, work):
        work()
        self.runs += 1
        return 1.0

    def restart(self):
        self.restarts += 1

    def peak(self):
        return self.bytes


def bench_of(model, fault=None, **settings):
    def make(choice):
        runner = ModelRunner(model, choice=choice)
        if choice == LYING and fault is not None:
            fault(runner)
        return runner

    return Workbench(make, **({"slots": 1, "solver": "euler", "meter": FakeMeter()} | settings))


@pytest.fixture(autouse=True)
def once(monkeypatch):
    """Timing once is enough where the times are faked."""
    monkeypatch.setattr(trial, "TIMES", 1)


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_float(tiny_model)


@pytest.fixture(scope="module")
def reference(model):
    return bench_of(model).reference


@pytest.fixture(scope="module")
def trained():
    """The bundled model on its workbench."""
    return bench_of(load_float(local_model(POCKET)), few=True)


def test_the_plain_engine_is_exact(model, reference):
    for part in ("decoder", "field", "both"):
        found, runner = bench_of(model, reference=reference).attempt(part, plain(4))
        assert (found.problem, found.psnr) == ("", EXACT)
        assert runner.frame_batch == 4


def test_the_fast_engine_is_accepted_as_a_whole(model, reference):
    bench = bench_of(model, reference=reference, slots=2)
    found, runner = bench.attempt("both", eager(4))
    assert (found.problem, str(runner.engine)) == ("", str(eager(4)))
    assert found.psnr > 60
    assert found.seconds == 1 / (2 * 50) + 1 / 4  # a window of two clips, and a batch of four frames


@pytest.mark.parametrize(
    ("precision", "part"), [("bfloat16", "decoder"), ("bfloat16", "field"), ("bfloat16", "both"), ("float16", "both")]
)
def test_half_precision_passes_the_gate_on_trained_weights(trained, precision, part):
    variant = Variant("eager", precision)
    found, _ = trained.attempt(part, Choice(variant, variant, 4))
    assert found.problem == ""
    assert 50 < found.psnr < EXACT  # it is not float32 that is measured


def wrong_pixels(runner):
    decode = runner._decode
    runner._decode = lambda *inputs: decode(*inputs) ^ 8


def one_wrong_frame(runner):
    decode = runner._decode

    def wrong(*inputs):
        frames = decode(*inputs)
        frames[-1] ^= 16
        return frames

    runner._decode = wrong


def other_pixels_each_time(runner):
    decode, calls = runner._decode, []

    def changing(*inputs):
        calls.append(1)
        frames = decode(*inputs)
        frames[:, 0] ^= 2 * (len(calls) > 2)  # the second decoding of 8 frames by 4
        return frames

    runner._decode = changing


def nan_motion(runner):
    sample = runner.sample
    runner.sample = lambda *inputs, **settings: sample(*inputs, **settings) * torch.nan


def drifting_motion(runner):
    sample = runner.sample
    runner.sample = lambda *inputs, **settings: sample(*inputs, **settings) * 1.05


def other_motion_each_time(runner):
    sample, calls = runner.sample, []

    def changing(*inputs, **settings):
        calls.append(1)
        return sample(*inputs, **settings) * (1 + 0.01 * (len(calls) % 2))

    runner.sample = changing


def nan_frames(runner):
    decode = runner._eager.decoder.forward
    runner._eager.decoder.forward = lambda *inputs: decode(*inputs) * torch.nan


def no_memory_for_a_batch(runner):
    decode = runner._decode

    def fails(latent, features):
        if len(latent) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(latent, features)

    runner._decode = fails


def no_memory(runner):
    def fails(*inputs, **settings):
        raise torch.OutOfMemoryError("CUDA out of memory")

    runner._decode = runner.sample = fails


def error(runner):
    def fails(*inputs, **settings):
        raise ValueError("of the compiler, about /home/me/file.cpp")

    runner._decode = runner.sample = fails


@pytest.mark.parametrize(
    ("part", "fault", "problem"),
    [
        ("decoder", wrong_pixels, "dB are required"),
        ("decoder", one_wrong_frame, "dB are required"),
        ("decoder", nan_frames, "dB are required"),
        ("decoder", other_pixels_each_time, "its frames differ from run to run"),
        ("decoder", no_memory, "it ran out of memory"),
        ("decoder", no_memory_for_a_batch, "it ran out of memory"),
        ("decoder", error, "it failed with an error"),
        ("field", nan_motion, "its motion is not finite"),
        ("field", drifting_motion, "its motion has an error of 5.0%"),
        ("field", other_motion_each_time, "its motion differs from run to run"),
        ("field", no_memory, "it ran out of memory"),
        ("field", error, "it failed with an error"),
        ("both", wrong_pixels, "dB are required"),
        ("both", nan_motion, "its motion is not finite"),
    ],
)
def test_an_engine_that_lies_or_fails_is_refused_with_a_reason(model, reference, part, fault, problem):
    bench = bench_of(model, fault, reference=reference)
    found, runner = bench.attempt(part, LYING)
    assert problem in found.problem
    assert runner is None
    assert bench.attempt(part, eager(4))[0].problem == ""


def test_a_device_that_is_broken_is_no_refusal_but_the_end_of_the_process(model, reference):
    def breaks(runner):
        def fails(*inputs):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        runner._decode = fails

    with pytest.raises(RuntimeError, match="illegal memory access"):
        bench_of(model, breaks, reference=reference).attempt("decoder", LYING)


def test_an_engine_that_takes_too_much_of_the_actors_memory_is_refused(model, reference):
    meter = FakeMeter(peak=71, available=100)
    bench = bench_of(model, reference=reference, meter=meter)
    assert bench.attempt("decoder", eager(4))[0].problem == "it took 71% of the memory, and 70% are allowed"
    assert meter.restarts == 1
    meter.bytes = 70
    assert bench.attempt("decoder", eager(4))[0].problem == ""


def test_a_check_is_not_timed(model, reference):
    meter = FakeMeter()
    found, _ = bench_of(model, reference=reference, meter=meter).attempt("both", eager(4), timed=False)
    assert (found.problem, found.seconds, meter.runs) == ("", 0, 0)


def test_a_plain_model_that_gives_nonsense_is_the_workers_failure(model):
    def make(choice):
        runner = ModelRunner(model, choice=choice)
        nan_motion(runner)
        return runner

    with pytest.raises(RuntimeError, match="not finite: check the health of its device"):
        Workbench(make, slots=1, solver="euler", meter=FakeMeter())


def test_the_probe_is_the_same_everywhere_and_a_picture_at_every_size():
    for side in (32, 64, 256):
        face = probe.drawn_face(side)
        assert np.array_equal(face, probe.drawn_face(side))
        assert face.shape == (side, side, 3)
        cheek, mouth = face[side // 2, side // 2 + side // 8, 1], face[int(0.64 * side), side // 2, 1]
        assert cheek > mouth
    speech = probe.made_up_speech(50, 256)
    assert np.array_equal(speech, probe.made_up_speech(50, 256))
    assert 0.2 < speech.std() < 1.2


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [0]), (3, [0, 2, 4]), (5, [0, 1, 2, 3, 4]), (7, [0, 1, 1, 2, 3, 3, 4])]
)
def test_frames_are_spread_over_the_window(count, chosen):
    assert probe.spread(torch.arange(5)[:, None], count).flatten().tolist() == chosen


@pytest.mark.parametrize(
    "variant", [{"pose": "head"}, {"conditioning": "cross_attention", "objective": "x0"}, {"emotion": "none"}]
)
def test_every_variant_of_the_model_has_a_probe(variant, tmp_path):
    from tests.tiny import save_tiny_model

    other = load_float(save_tiny_model(tmp_path / "model", **variant))
    solver = "ddim" if "objective" in variant else "euler"
    bench = bench_of(other, solver=solver, few=True)
    assert bench.attempt("both", eager(4))[0].problem == ""
