"""Plain, fast and compiled ways of computing give the same portraits, motion and frames, also where memory is short."""

import copy
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import load_float
from models.fast.native import has_native
from models.flow import guidance_branches
from pipeline.common.limits import Limits
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.settings import ClipDefaults
from pipeline.media.pixel_layout import YUV422P10, YUVA444P10
from pipeline.render import model_runner
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.engine import Engine
from pipeline.render.feature_stage import FeatureStage
from pipeline.render.model_runner import ModelRunner
from pipeline.render.motion_inputs import MotionInputs
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.render.tuning import probe
from pipeline.render.tuning.gate import EXACT, worst_psnr
from pipeline.render.variants import Choice, Variant, choose_mode, use_precision
from tests import media
from tests.running import results
from tests.tiny import save_tiny_model

SCALES = [(3.0, 2.0, 1.0), (2.0, 1.5, 1.0), (2.0, 1.0, 1.0)]
NATIVE = Variant("native", "int8")
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


@pytest.mark.skipif(not has_native(), reason="no AVX-512 with products of 8-bit integers, or no compiler")
def test_the_decoder_in_c_plus_plus_decodes_any_number_of_frames_of_any_portrait(model, pixels):
    calm = copy.deepcopy(model)  # random weights would move pixels across the whole image
    for stage in calm.autoencoder.decoder.stages:
        stage.warp.conv.weight.data *= 0.01
    motion = 0.1 * torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    plain, fast = (ModelRunner(calm, choice=Choice(v, Variant("eager"), 4)) for v in (Variant("eager"), NATIVE))
    for image in pixels:  # the last batch has one frame, and a portrait is followed by another
        expected = np.concatenate(list(plain.frames(plain.portrait(image), motion)))
        found = np.concatenate(list(fast.frames(fast.portrait(image), motion)))
        assert 40 < worst_psnr(found, expected) < EXACT
    assert fast.engine == "decoder native int8 x4, field eager float32"
    wide = torch.cat(list(fast.decoded(fast.portrait(image), motion, YUV422P10)))
    assert np.abs(wide[:, :32].numpy().astype(int) - 4 * found[:, :32].astype(int)).max() <= 2


@pytest.mark.parametrize("layout", [YUV422P10, YUVA444P10], ids=lambda layout: layout.name)
def test_frames_come_in_the_layout_of_the_delivery(model, pixels, layout):
    portrait, motion = make(model, "eager").portrait(pixels[0]), torch.zeros(2, 16)
    web = np.concatenate(list(make(model, "eager").frames(portrait, motion)))
    runner = make(model, "eager", layout=layout)
    frames = np.concatenate(list(runner.frames(portrait, motion)))
    assert (frames.dtype, frames.shape) == (np.uint16, (2, layout.plane_rows(32), 32))
    for planes, known in zip(frames, web, strict=True):
        luma, *_ = layout.split(planes)
        np.testing.assert_allclose(luma / 4, known[:32], atol=0.75)
    names = {repr(runner._eager), repr(make(model, "eager")._eager)}
    assert len(names) == 2  # compiled packages go by them


@pytest.mark.slow
def test_the_compiled_way_gives_what_the_plain_one_gives(folder, model, pixels, compiled_cache, tmp_path, monkeypatch):
    """In a full batch, in one that is filled up, and in the engine, which finds the code that is compiled by then.

    Head poses go into conditions, which are not compiled: a model without them has the same code.
    """
    monkeypatch.setenv("FLOATCAST_CACHE", str(tmp_path))
    for clips in (3, 1):
        motion, frames = run(make(model, "reference"), pixels, clips)
        fast_motion, fast_frames = run(make(model, "compiled", folder.hash, compiled_cache), pixels, clips)
        torch.testing.assert_close(fast_motion, motion, atol=1e-4, rtol=1e-4)
        assert np.abs(frames.astype(int) - fast_frames).max() <= 1
    compiled = sorted(compiled_cache.glob("*.pt2"))
    assert [path.name.split("-")[0] for path in compiled] == ["FastField", "YuvDecoder"]

    video = media.lossless()
    clip = replace(read_manifest(str(media.DEMO.parent / "manifest.jsonl")).clips[1], e_cfg_scale=1.5, nfe=4)
    item = results(FeatureStage(str(folder.path), FeatureSettings(), Limits(), video), [clip])[0]
    item = replace(item, speech=item.speech[:70], pose=POSE, frames=70)
    found = []
    # The worker's own test then needs the same module as the clip.
    monkeypatch.setattr(probe, "ClipDefaults", lambda: ClipDefaults(e_cfg_scale=1.5))
    for mode in ("reference", "compiled"):
        settings = EngineSettings(device="cpu", mode=mode, slots=3, frame_batch=16)
        row = next(iter(Engine(folder, settings, video, Ledger(str(tmp_path / mode))).process([item])))
        assert row["status"] == "done", row
        found.append(media.planes(row["uri"]).astype(int))
    assert np.abs(found[0] - found[1]).max() <= 1
    assert sorted(compiled_cache.glob("*.pt2")) == compiled


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


def test_auto_tunes_only_where_it_pays():
    assert choose_mode("auto", gpu=False, seconds=299) == "eager"
    assert choose_mode("auto", gpu=False, seconds=300) == "tuned"
    assert choose_mode("auto", gpu=True, seconds=0) == "tuned"
    assert not EngineSettings(device="cpu", num_gpus=1).on_gpu  # GPUs that are only counted
    assert EngineSettings(num_gpus=0.5).on_gpu
    assert choose_mode("reference", gpu=False, seconds=1e6) == "reference"


def test_an_unknown_mode_is_refused(model):
    with pytest.raises(ValueError, match="mode must be one of reference, eager, native, compiled"):
        make(model, "fast")


# --- Precision ---------------------------------------------------------------------------------------------------


def tf32():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture
def flags():
    """As PyTorch sets them, before and after the test."""
    before = tf32()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_only_the_precision_tf32_allows_tf32(precision, flags):
    """PyTorch allows it for convolutions unless it is told not to."""
    torch.backends.cudnn.allow_tf32 = True
    use_precision(precision)
    assert tf32() == (False, False)
    use_precision("tf32")
    assert tf32() == (True, True)


def test_each_part_is_computed_with_the_flags_of_its_own_precision(model, pixels, flags):
    choice = Choice(Variant("eager", "tf32"), Variant("eager"), 16)
    runner = ModelRunner(model, choice=choice)
    seen, decode, embed = {}, runner._decode, model.transformer.embed_time.forward

    def decoding(*inputs):
        seen["decoder"] = tf32()
        return decode(*inputs)

    def embedding(t):
        seen["field"] = tf32()
        return embed(t)

    encode = model.encode_portrait

    def encoding(image):
        seen["portrait"] = tf32()
        return encode(image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_decode", decoding)
        patch.setattr(model.transformer.embed_time, "forward", embedding)
        patch.setattr(model, "encode_portrait", encoding)
        run(runner, pixels, clips=1)
    assert seen == {"portrait": (False, False), "field": (False, False), "decoder": (True, True)}


# --- Where memory is short ---------------------------------------------------------------------------------------


class Activation:
    """Stands for gigabytes that a failed attempt held."""


def running_out_above(runner, most, held):
    """A decoder for which batches of more than `most` frames are too large."""
    plain = runner._decode

    def decode(latent, features):
        activation = Activation()
        if len(latent) > most:
            held.append(weakref.ref(activation))
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert [one for one in held if one() is not None] == []
        return plain(latent, features)

    return decode


def test_what_a_failed_batch_held_is_free_before_its_halves_are_tried(model, pixels, monkeypatch):
    expected = run(make(model, "eager", frame_batch=2), pixels, clips=1)[1]
    runner, held, emptied = make(model, "eager"), [], []
    runner._decode = running_out_above(runner, 2, held)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append([one() for one in held]))
    frames = run(runner, pixels, clips=1)[1]
    assert emptied == [[None], [None, None], [None, None, None]]  # batches of 16, 8 and 4
    assert np.abs(frames.astype(int) - expected).max() <= 1
    assert runner.engine == "decoder eager float32 x2, field eager float32 (after the memory was short)"


def test_a_single_frame_that_does_not_fit_is_an_error(model, pixels):
    runner = make(model, "eager", frame_batch=2)
    runner._decode = running_out_above(runner, 0, [])
    with pytest.raises(torch.OutOfMemoryError):
        run(runner, pixels, clips=1)


def compiles_to(wrap):
    """A compiler whose code takes one shape only, as that of the real one does; `wrap` makes it from the module."""

    def compiled(module, inputs, *, weights, cache):
        shapes, code = [tensor.shape for tensor in inputs if isinstance(tensor, torch.Tensor)], wrap(module)

        def run_compiled(*given):
            assert [tensor.shape for tensor in given if isinstance(tensor, torch.Tensor)] == shapes
            return code(*given)

        return run_compiled

    return compiled


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_compiled_decoder_whose_batch_does_not_fit_is_halved_and_eager(model, pixels, monkeypatch, precision):
    choice = Choice(Variant("compiled", precision), Variant("eager"), 8)
    expected = run(ModelRunner(model, choice=Choice(Variant("eager", precision), Variant("eager"), 4)), pixels, 1)[1]

    def never_fits(module):
        def code(*inputs):
            raise torch.OutOfMemoryError("CUDA out of memory")

        return code

    monkeypatch.setattr(model_runner, "compiled", compiles_to(never_fits))
    runner = ModelRunner(model, choice=choice, cache=Path("unused"))
    frames = run(runner, pixels, clips=1)[1]
    assert np.abs(frames.astype(int) - expected).max() <= 1
    now = f"decoder eager {precision} x4, field eager float32 (after the memory was short)"
    assert runner.engine == now


def test_a_compiled_field_samples_halves_of_a_batch_eagerly(model, pixels, monkeypatch):
    choice = Choice(Variant("eager"), Variant("compiled"), 16)
    expected = run(make(model, "eager"), pixels)[0]

    def fits_never(module):
        def code(*inputs):
            raise torch.OutOfMemoryError("CUDA out of memory")

        return code

    monkeypatch.setattr(model_runner, "compiled", compiles_to(fits_never))
    runner = ModelRunner(model, choice=choice, cache=Path("unused"))
    torch.testing.assert_close(run(runner, pixels)[0], expected, atol=1e-5, rtol=1e-5)
    assert runner.engine.endswith("field compiled float32 (after the memory was short)")


# --- CUDA graphs -------------------------------------------------------------------------------------------------


class Replayed:
    """A graph of the CPU: like a CUDA graph it reads and writes the tensors of its recording."""

    def __init__(self, function, inputs):
        self.function, self.inputs = function, [tensor.clone() for tensor in inputs]

    def __call__(self, *inputs):
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        return self.function(*self.inputs)


def test_a_loop_that_is_replayed_for_other_clips_gives_their_motion(model, pixels, monkeypatch):
    """All that differs between windows and clips goes through the inputs of the graph."""
    monkeypatch.setattr(model_runner, "Recorded", Replayed)
    runner = ModelRunner(model, choice=Choice(Variant("eager"), Variant("eager", graph=True), 16))
    expected = run(make(model, "eager"), pixels)
    first, again = run(runner, pixels), run(runner, pixels[::-1].copy())
    torch.testing.assert_close(first[0], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again[0], run(make(model, "eager"), pixels[::-1].copy())[0], atol=1e-5, rtol=1e-5)
    assert len(runner._graphs) == 1  # all windows of both runs
