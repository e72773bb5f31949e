"""The training loop without Ray: what a step sees, stopping and going on, one worker and two."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from models import EMOTIONS, FLOAT, ModelFolder, load_float
from models.fast.compiled import compile_problem
from models.learning.objectives import Dropout
from models.learning.reconstruction import reconstruct
from pipeline.common.options import SettingError
from pipeline.training import autoencoder_stage
from pipeline.training.autoencoder_stage import AutoencoderStage
from pipeline.training.checkpoint import CheckpointError, identity, load_checkpoint, newest, save_checkpoint, store
from pipeline.training.curves import Curves, page, read_curves
from pipeline.training.frames import psnr, read_frames
from pipeline.training.learner import Learner, learning_rate
from pipeline.training.loop import DivergedError, read_batches, train
from pipeline.training.motion_stage import MotionStage
from pipeline.training.reconstruction_settings import ReconstructionSettings
from pipeline.training.run import TrainJob, check_data, is_fresh, run_worker
from pipeline.training.samples import CurveScale, DataError, FramePairs, MotionWindows
from pipeline.training.settings import (
    AdapterSettings,
    DataSettings,
    OptimiserSettings,
    TrainSettings,
    WatchSettings,
)
from pipeline.training.world import World
from pipeline.training_data.shards import CLIPS, LATENTS, Shards
from tests.prepared import pictures, write_prepared
from tests.tiny import CONFIG

SMALLER = dataclasses.replace(CONFIG, channels=CONFIG.channels[:3])
"""16 px."""

ADVERSARIAL = {"adversarial": 1, "component_adversarial": 1, "feature_style": 10}


@pytest.fixture(scope="module")
def data(prepared):
    return prepared


@pytest.fixture(scope="module")
def videos(data):
    shards = Shards(f"{data}/{CLIPS}")
    return [shards.read(i, "video")["video"] for i in range(len(shards))]


def settings_of(stage, data, steps=6, **parts):
    optimiser = {"steps": steps, "batch": 4, "learning_rate": 1e-3} | parts.pop("optimiser", {})
    reconstruction = {"adversarial": 0, "component_adversarial": 0, "feature_style": 0} | parts.pop(
        "reconstruction", {}
    )
    watch = {"log_every": 1, "validate_every": 3, "save_every": 3, "samples": 3}
    return TrainSettings(
        stage=stage,
        data=data,
        optimiser=OptimiserSettings(**optimiser),
        reconstruction=ReconstructionSettings(critic_width=0.02, **reconstruction),
        watch=WatchSettings(**watch),
        **parts,
    )


def model_of(config=CONFIG):
    torch.manual_seed(5)
    return FLOAT(config).eval()


def stage_of(settings, config=CONFIG, world=None):
    kind = AutoencoderStage if settings.stage == "autoencoder" else MotionStage
    return kind(model_of(config), settings, world or World())


# --- Samples ---------------------------------------------------------------------------------------------------


def test_frames_are_read_by_their_numbers_in_any_order(videos):
    every = read_frames(videos[0], None, 32)
    assert every.shape == (90, 32, 32, 3)
    assert np.abs(every.astype(int) - pictures(0)).mean() < 4
    numbers = [89, 0, 41, 41, 7]
    assert np.array_equal(read_frames(videos[0], numbers, 32), every[numbers])
    assert read_frames(videos[0], [3], 16).shape == (1, 16, 16, 3)
    with pytest.raises(IndexError, match="no frame 90"):
        read_frames(videos[0], [90], 32)


def test_psnr_of_a_known_error_inside_and_outside_a_mask():
    one, mask = torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8)
    mask[:, :4] = 1
    other = one.clone()
    other[:, :, 4:] = 0.2  # a tenth of the range
    assert psnr(other, one).item() == pytest.approx(20 + 10 * np.log10(2), abs=1e-4)
    assert psnr(other, one, 1 - mask).item() == pytest.approx(20, abs=1e-4)
    assert psnr(other, one, mask).item() == 100


def test_a_pair_is_a_function_of_seed_step_and_place_whatever_is_cached(data):
    shards = Shards(f"{data}/{CLIPS}", ["train"])
    plain, cached = FramePairs(shards, 32), FramePairs(shards, 32, cache_gigabytes=1)
    half = FramePairs(shards, 32, cache_gigabytes=90 * 32 * 32 * 3 / 1e9)
    for step, place in [(0, 0), (0, 1), (7, 0), (0, 0)]:
        pair, boxes, _ = plain.sample(3, step, place)
        assert not np.array_equal(pair[0], pair[1])
        assert boxes.shape == (3, 4)
        for other in (cached, half):
            assert np.array_equal(other.sample(3, step, place)[0], pair)
    different = {plain.sample(seed, step, place)[0].tobytes() for seed in (3, 4) for step in (0, 1) for place in (0, 1)}
    assert len(different) == 8


def test_a_source_may_come_from_another_clip_of_the_speaker(known):
    shards = Shards(f"{known}/{CLIPS}", ["train"])
    shards.rows = [row | {"speaker": "anna"} for row in shards.rows]
    whole = {clip: read_frames(shards.read(clip, "video")["video"], None, 32) for clip in range(2)}

    def clip_of(picture):
        return next(clip for clip, frames in whole.items() if (frames == picture).all((1, 2, 3)).any())

    scale = CurveScale(shards)
    pairs = FramePairs(shards, 32, curves=scale, across=0.5)
    found = [pairs.sample(0, 0, place) for place in range(100)]
    crossed = [clip_of(pair[0]) != clip_of(pair[1]) for pair, _, _ in found]
    assert np.mean(crossed) == pytest.approx(0.5, abs=0.15)
    for (pair, _, curves), other in zip(found, crossed, strict=True):
        if other:  # the curves are those of the frames, each of its own clip
            clip = clip_of(pair[0])
            frame = (whole[clip] == pair[0]).all((1, 2, 3)).argmax()
            assert np.allclose(curves[0], scale(shards.read(clip, "curves")["curves"][frame]), atol=0.1)
    alone = Shards(f"{known}/{CLIPS}", ["train"])  # each of its speakers has one clip
    assert FramePairs(alone, 32, across=1).sample(0, 0, 0)[0].shape == (2, 32, 32, 3)


def test_windows_begin_a_clip_or_have_what_comes_before_them(data):
    shards = Shards(f"{data}/{LATENTS}", ["train"])
    windows = MotionWindows(shards, CONFIG, Dropout(0, 0, 0, 0, 0))
    truth = [shards.read(clip, "motion", "content", "pose") for clip in range(2)]
    seen = set()
    for place in range(200):
        sample = windows.sample(0, 0, place)
        first = not sample["keep"][3]
        for clip, row in enumerate(truth):
            for start in [0] if first else range(10, 41):
                if np.array_equal(sample["motion"][10:], row["motion"][start : start + 50]):
                    seen.add((clip, start))
                    if first:
                        assert not sample["motion"][:10].any()
                        assert not sample["content"][:10].any()
                    else:
                        assert np.array_equal(sample["motion"][:10], row["motion"][start - 10 : start])
                        assert np.array_equal(sample["content"], row["content"][start - 10 : start + 50])
                    assert (sample["reference"] == row["motion"]).all(1).any()
    # Of 2 x 32 possible windows 200 draws miss some; every draw was one of them.
    assert len(seen) > 50
    assert {clip for clip, _ in seen} == {0, 1}
    assert {0, 40} <= {start for _, start in seen}


def test_some_windows_have_the_emotion_that_the_table_names(data):
    shards = Shards(f"{data}/{LATENTS}", ["train"])
    for row in shards.rows:
        row["emotion"] = "happy"
    heard = shards.read(0, "speech_emotion")["speech_emotion"]
    windows = MotionWindows(shards, CONFIG, Dropout(), labels=0.25)
    found = [windows.sample(0, 0, place)["emotion"] for place in range(400)]
    named = [values for values in found if np.array_equal(values, np.eye(7)[EMOTIONS.index("happy")])]
    assert len(named) / 400 == pytest.approx(0.25, abs=0.07)
    assert all(np.array_equal(values, heard) for values in found if values.max() != 1)
    never = MotionWindows(shards, CONFIG, Dropout())
    assert all(np.array_equal(never.sample(0, 0, place)["emotion"], heard) for place in range(20))


def test_the_reference_may_come_from_another_clip_of_the_speaker(data):
    shards = Shards(f"{data}/{LATENTS}", ["train"])
    shards.rows = [row | {"speaker": "anna"} for row in shards.rows]
    motions = [shards.read(clip, "motion")["motion"] for clip in range(2)]

    def clip_of(values):
        return next(clip for clip, motion in enumerate(motions) if (motion == values).all(1).any())

    windows = MotionWindows(shards, CONFIG, Dropout(), across=0.5)
    found = [windows.sample(0, 0, place) for place in range(100)]
    crossed = [clip_of(one["reference"]) != clip_of(one["motion"][-1]) for one in found]
    assert np.mean(crossed) == pytest.approx(0.5, abs=0.15)
    for nobody in (None, ""):  # two clips of nobody known are not one person's
        shards.rows = [row | {"speaker": nobody} for row in shards.rows]
        strangers = MotionWindows(shards, CONFIG, Dropout(), across=1)
        for one in (strangers.sample(0, 0, place) for place in range(20)):
            assert clip_of(one["reference"]) == clip_of(one["motion"][-1])


def test_data_that_does_not_fit_is_refused(data, tmp_path):
    shards = Shards(f"{data}/{LATENTS}", ["train"])
    with pytest.raises(DataError, match="latent_dim is 16, but the model's is 32"):
        MotionWindows(shards, dataclasses.replace(CONFIG, latent_dim=32), Dropout())
    with pytest.raises(DataError, match="no clip has at least the 100 frames"):
        MotionWindows(shards, dataclasses.replace(CONFIG, window=100), Dropout())
    seen = MotionWindows(shards, dataclasses.replace(CONFIG, emotion="image"), Dropout())
    with pytest.raises(DataError, match=r"clip-[01] has no image_emotion"):
        seen.sample(0, 0, 0)


def test_batches_come_in_order_and_every_worker_gets_its_places(data):
    samples = MotionWindows(Shards(f"{data}/{LATENTS}", ["train"]), CONFIG, Dropout())
    reading = DataSettings(threads=3, ahead=2)
    whole = list(read_batches(samples, reading, seed=1, steps=range(2, 6), places=range(5)))
    assert [step for step, _, _ in whole] == [2, 3, 4, 5]
    parts = [World(rank, 2).share(5) for rank in range(2)]
    assert [list(part) for part in parts] == [[0, 1], [2, 3, 4]]
    halves = [list(read_batches(samples, reading, seed=1, steps=range(2, 6), places=part)) for part in parts]
    for (_, batch, _), (_, left, _), (_, right, _) in zip(whole, *halves, strict=True):
        assert torch.equal(batch.noise, torch.cat([left.noise, right.noise]))
        assert torch.equal(batch.motion, torch.cat([left.motion, right.motion]))
    with pytest.raises(ValueError, match="cannot keep 3 workers busy"):
        World(0, 3).share(2)


def test_an_error_of_a_sample_reaches_the_loop(data):
    samples = MotionWindows(
        Shards(f"{data}/{LATENTS}", ["train"]), dataclasses.replace(CONFIG, emotion="image"), Dropout()
    )
    with pytest.raises(DataError, match="image_emotion"):
        list(read_batches(samples, DataSettings(), seed=0, steps=range(3), places=range(2)))


# --- Learner ---------------------------------------------------------------------------------------------------


def test_the_learning_rate_rises_stays_and_falls():
    settings = OptimiserSettings(steps=100, warmup=10, decay=0.2)
    rates = [learning_rate(settings, 2.0, step) for step in (0, 4, 9, 50, 80, 90, 99)]
    assert rates == pytest.approx([0.2, 1.0, 2.0, 2.0, 2.0, 1.0, 0.1])
    assert learning_rate(OptimiserSettings(steps=10), 3.0, 0) == 3.0


def test_averaged_weights_follow_the_trained_ones_and_are_only_lent():
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    learner = Learner(layer, OptimiserSettings(steps=100, ema=0.9, clip=0), 1.0, World())
    average, seen = 0.0, []
    for step in range(40):
        learner.backward((layer.weight.sum() - 3).square()[None], 1)
        learner.step(step)
        decay = min(0.9, (2 + step) / (11 + step))
        average = decay * average + (1 - decay) * layer.weight.item()
        seen.append(layer.weight.item())
    with learner.averaged():
        assert layer.weight.item() == pytest.approx(average, abs=1e-5)
    assert layer.weight.item() == seen[-1]


@pytest.mark.parametrize("stage", ["autoencoder", "motion"])
def test_micro_batches_give_the_gradients_of_the_whole_batch(data, stage):
    losses = {}
    for micro in (0, 1, 3):
        settings = settings_of(stage, data, optimiser={"micro_batch": micro, "clip": 0}, reconstruction=ADVERSARIAL)
        made = stage_of(settings)
        for step, batch, _ in read_batches(made.samples, DataSettings(), seed=0, steps=range(2), places=range(4)):
            sums = made.update(batch, step)
        losses[micro] = {name: float(value) for name, value in sums.items()}
    for micro in (1, 3):
        assert losses[micro] == pytest.approx(losses[0], rel=2e-3)


@pytest.mark.parametrize(
    ("stage", "parts", "trained"),
    [
        ("autoencoder", {}, "autoencoder."),
        ("autoencoder", {"reconstruction": {"decoder_only": True}}, "autoencoder.decoder."),
        ("motion", {}, ("transformer.", "speech_projection.")),
    ],
)
def test_a_step_changes_exactly_the_trained_parts(data, stage, parts, trained):
    made = stage_of(settings_of(stage, data, optimiser={"learning_rate": 1e-2}, **parts))
    before = {name: value.clone() for name, value in made._model.state_dict().items()}
    for step, batch, _ in read_batches(made.samples, DataSettings(), seed=0, steps=range(2), places=range(4)):
        made.update(batch, step)
    changed = {name for name, value in made._model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith(trained)}


@pytest.mark.parametrize("stage", ["autoencoder", "motion"])
def test_bfloat16_computes_nearly_the_losses_of_float32(data, stage):
    found = {}
    for dtype in ("float32", "bfloat16"):
        made = stage_of(settings_of(stage, data, optimiser={"dtype": dtype}, reconstruction=ADVERSARIAL))
        for step, batch, _ in read_batches(made.samples, DataSettings(), seed=0, steps=range(2), places=range(4)):
            sums = made.update(batch, step)
        found[dtype] = float(sums["loss"])
        assert all(p.dtype == torch.float32 for p in made._model.parameters())
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.05)


def test_adapters_train_alone_and_end_as_part_of_the_weights(data):
    made = stage_of(settings_of("motion", data, optimiser={"learning_rate": 1e-2}, adapter=AdapterSettings(rank=2)))
    before = model_of().state_dict()
    for step, batch, _ in read_batches(made.samples, DataSettings(), seed=0, steps=range(3), places=range(4)):
        made.update(batch, step)
    trained = sum(p.numel() for p in made._model.parameters() if p.requires_grad)
    after = made.finished().state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed
    assert all(name.startswith("transformer.") and name.endswith("weight") for name in changed)
    assert trained < 0.5 * sum(before[name].numel() for name in changed)


def test_discriminators_take_part_from_their_step_on(data):
    late = {"adversarial": 1, "component_adversarial": 1, "feature_style": 1, "adversarial_from": 1}
    made = stage_of(settings_of("autoencoder", data, reconstruction=late))
    terms = []
    for step, batch, _ in read_batches(made.samples, DataSettings(), seed=0, steps=range(2), places=range(4)):
        terms.append(set(made.update(batch, step)))
    new = {"adversarial", "component_adversarial", "feature_style", "critic_picture", "critic_eyes", "critic_lips"}
    assert terms[1] - terms[0] == new
    assert {"l1", "perceptual", "component", "loss", "gradient_norm"} <= terms[0]


# --- What is known of frames -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return write_prepared(str(tmp_path_factory.mktemp("known")), curves=True)


def test_curves_are_standardised_over_the_training_data(known):
    shards = Shards(f"{known}/{CLIPS}", ["train"])
    scale = CurveScale(shards)
    values = scale(np.concatenate([shards.read(clip, "curves")["curves"] for clip in range(len(shards))]))
    assert values.dtype == np.float32
    assert values.mean(0) == pytest.approx([0, 0, 0], abs=1e-4)
    assert values.std(0) == pytest.approx([1, 1, 0], abs=1e-4)
    samples = FramePairs(shards, 32, curves=scale)
    batch = samples.collate([samples.sample(0, 0, place) for place in range(5)])
    assert batch.curves.shape == (5, 2, 3)
    assert torch.equal(batch.part(slice(1, 3)).curves, batch.curves[1:3])


@pytest.mark.parametrize("term", ["curves", "curve_changes"])
def test_the_motion_code_learns_what_is_known_of_frames(known, term):
    weights = {term: 1, "perceptual": 0, "component": 0}
    settings = settings_of("autoencoder", known, optimiser={"learning_rate": 1e-2}, reconstruction=weights)
    made = stage_of(settings, SMALLER)
    missed = []
    for step, batch, _ in read_batches(made.samples, DataSettings(), seed=0, steps=range(50), places=range(4)):
        missed.append(float(made.update(batch, step)[term]) / 4)
    # The mean of three curves, one of which is known without learning: 2/3 is what a head says that knows nothing, and
    # of changes twice that.
    assert np.mean(missed[:2]) > 0.5
    assert np.mean(missed[-10:]) < 0.2  # 0.01 to 0.03 from six seeds
    assert made.finished().state_dict().keys() == model_of(SMALLER).state_dict().keys()  # the head is thrown away


@pytest.mark.parametrize("term", ["curves", "curve_changes"])
def test_the_known_values_count_as_their_weights_say(known, term):
    def missed(weights):
        wanted = {term: 1, "curve_weights": weights, "perceptual": 0, "component": 0}
        made = stage_of(settings_of("autoencoder", known, reconstruction=wanted), SMALLER)
        batch = made.samples.collate([made.samples.sample(0, 0, place) for place in range(4)])
        return float(made.update(batch, 0)[term])

    alike = missed([])
    assert missed([2, 2, 2]) == pytest.approx(2 * alike)
    assert missed([1, 0, 0]) + missed([0, 1, 1]) == pytest.approx(alike)
    assert 0 < missed([1, 0, 0]) < alike


@torch.no_grad()
def test_motion_latents_can_be_delivered_with_the_size_of_noise(data, monkeypatch):
    monkeypatch.setattr(autoencoder_stage, "MEASURED", 128)
    cached = DataSettings(cache_gigabytes=1)
    made = stage_of(settings_of("autoencoder", data, reconstruction={"unit_motion": True}, reading=cached))
    batch = made.samples.collate([made.samples.sample(1, 0, place) for place in range(64)])
    before, after = made._model.autoencoder, made.finished().autoencoder
    assert after.encode(batch.driving).motion.std(0).square().mean().sqrt().item() == pytest.approx(1, rel=0.1)
    assert torch.allclose(
        reconstruct(after, batch.source, batch.driving), reconstruct(before, batch.source, batch.driving), atol=1e-3
    )


def test_a_head_for_curves_needs_curves_of_all(data, known, tiny_model):
    wanted = {"reconstruction": {"curves": 1}}
    check_data(settings_of("autoencoder", known, **wanted), tiny_model)
    with pytest.raises(DataError, match=r"clip-0 has no curves.*reconstruction\.curves.*column curves"):
        check_data(settings_of("autoencoder", data, reconstruction={"curve_changes": 1}), tiny_model)
    with pytest.raises(DataError, match="has 2 weights, and the clips have 3 curves"):
        check_data(
            settings_of("autoencoder", known, reconstruction={"curve_changes": 1, "curve_weights": [1, 2]}), tiny_model
        )
    with pytest.raises(SettingError, match="0 or more"):
        settings_of("autoencoder", known, reconstruction={"curve_weights": [1, -2, 1]})


@pytest.mark.slow
@pytest.mark.skipif(bool(compile_problem()), reason=compile_problem())
def test_a_compiled_step_computes_the_same_losses(known):
    found, smallest = {}, dataclasses.replace(CONFIG, channels=CONFIG.channels[:2])  # compiling a resolution takes long
    for compiled in (False, True):
        settings = settings_of("autoencoder", known, optimiser={"compile": compiled}, reconstruction={"curves": 1})
        made = stage_of(settings, smallest)
        for step, batch, _ in read_batches(made.samples, DataSettings(), seed=0, steps=range(3), places=range(4)):
            sums = made.update(batch, step)
        found[compiled] = {name: float(value) for name, value in sums.items()}
    assert found[True] == pytest.approx(found[False], rel=1e-3)


# --- The loop --------------------------------------------------------------------------------------------------


def trained(settings, output, *, stop=None):
    """Run the loop from the newest checkpoint in `output`; returns the stage. Raises within step `stop`."""
    run, stage, found, lines = identity(settings, "hash"), stage_of(settings), newest(str(output)), []
    if found is not None:
        load_checkpoint(str(output), found.step, stage, run)

    def say(line):
        lines.append(line)
        if line.startswith(f"step {stop} of"):
            raise KeyboardInterrupt

    start = 0 if found is None else found.step
    train(stage, settings, World(), start=start, output=str(output), run=run, say=say)
    return stage, lines


def losses(output):
    return {step: value for step, name, value in read_curves(str(output)) if name == "train/loss"}


@pytest.mark.parametrize("stage", ["autoencoder", "motion"])
def test_stopping_and_going_on_gives_the_losses_and_weights_of_not_stopping(data, stage, tmp_path):
    settings = settings_of(stage, data, steps=4, reconstruction=ADVERSARIAL, optimiser={"batch": 2})
    settings.watch.save_every = settings.watch.validate_every = 2
    whole, lines = trained(settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(settings, tmp_path / "parts", stop=4)
    assert newest(str(tmp_path / "parts")).step == 2
    parts, again = trained(settings, tmp_path / "parts")
    assert [line.split()[1] for line in again if " of 4: " in line] == ["3", "4"]
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert list(losses(tmp_path / "whole")) == [1, 2, 3, 4]
    for one, other in zip(whole.finished().parameters(), parts.finished().parameters(), strict=True):
        assert torch.equal(one, other)
    assert any("ETA" in line and "samples/s per worker" in line and "waiting for data" in line for line in lines)
    table = pq.read_table(tmp_path / "whole" / "curves.parquet")
    names = set(table.column("name").to_pylist())
    assert {"train/samples_per_second_per_worker", "train/data_wait_share", "validation/loss"} - names <= {
        "validation/loss"
    }
    assert any(name.startswith("validation/") for name in names)
    assert (tmp_path / "whole" / "sheets" / "step-000000004.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert list((tmp_path / "whole" / "tensorboard").iterdir())
    assert "polyline" in (tmp_path / "whole" / "curves.html").read_text()


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_saved(data, tmp_path):
    settings = settings_of("motion", data, optimiser={"learning_rate": 1e30, "clip": 0})
    with pytest.raises(DivergedError, match=r"not finite any more at step [123]: lower optimiser\.learning_rate"):
        trained(settings, tmp_path)
    assert newest(str(tmp_path)) is None


def test_a_checkpoint_of_another_configuration_is_refused_by_name(data, tmp_path):
    settings, output = settings_of("motion", data), str(tmp_path / "out")
    stage = stage_of(settings)
    save_checkpoint(tmp_path, stage, 3, identity(settings, "hash"), {})
    store(tmp_path, output, 3, keep=1)
    load_checkpoint(output, 3, stage, identity(settings, "hash"))
    longer = settings_of("motion", data, steps=9, reading=DataSettings(threads=7), optimiser={"micro_batch": 2})
    load_checkpoint(output, 3, stage, identity(longer, "hash"))
    other = settings_of("motion", data, optimiser={"seed": 4, "batch": 2})
    with pytest.raises(CheckpointError, match=r"optimiser\.batch was 4, is 2, optimiser\.seed was 0, is 4"):
        load_checkpoint(output, 3, stage, identity(other, "hash"))
    with pytest.raises(CheckpointError, match="model was 'hash', is 'other'"):
        load_checkpoint(output, 3, stage, identity(settings, "other"))
    falling = settings_of("motion", data, optimiser={"decay": 0.5})
    ended_later = settings_of("motion", data, steps=9, optimiser={"decay": 0.5})
    assert identity(falling, "hash") != identity(ended_later, "hash")


def test_curves_forget_what_was_drawn_beyond_the_checkpoint(tmp_path):
    curves = Curves(str(tmp_path), 0)
    for step in (1, 2, 3):
        curves.add(step, {"train/loss": 1.0 / step})
    curves.close()
    again = Curves(str(tmp_path), 2)
    again.add(3, {"train/loss": 9.0})
    again.close()
    assert read_curves(str(tmp_path)) == [(1, "train/loss", 1.0), (2, "train/loss", 0.5), (3, "train/loss", 9.0)]


def test_the_page_of_curves_survives_odd_values():
    shown = page([(1, "a<b", float("nan")), (1, "c", 2.0), (5, "c", float("inf")), (9, "c", 2.0)])
    assert "a&lt;b" in shown
    assert "not finite" in shown
    assert shown.count("<svg") == 1
    assert "No step has been recorded" in page([])


def test_the_page_of_curves_says_what_was_trained_on_what_and_links_the_newest_sheet(tmp_path):
    curves = Curves(str(tmp_path), 0, [("data", "s3://b/<corpus>")])
    curves.add(7, {"train/loss": 1.0})
    curves.picture(7, b"\xff\xd8")
    curves.close()
    shown = (tmp_path / "curves.html").read_text()
    assert "<dt>data</dt><dd>s3://b/&lt;corpus&gt;</dd>" in shown
    assert f"<dt>output</dt><dd>{tmp_path}</dd>" in shown
    assert "<dt>steps done</dt><dd>7</dd>" in shown
    assert '<a href="sheets/step-000000007.jpg"><img' in shown


TWO = """
import os, sys
import torch
from torch import distributed
sys.path.insert(0, {root!r})
from pipeline.training.world import World
from tests.pipeline.training import test_training as t

rank, data, output, place = int(sys.argv[1]), *sys.argv[2:]
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method="file://" + place, rank=rank, world_size=2)
for stage in ("autoencoder", "motion"):
    t.loop(stage, data, output + "/" + stage, World(rank, 2), micro_batch=2)
os._exit(0)  # without taking down all modules, which takes as long as importing them
"""


def loop(stage, data, output, world, micro_batch=0):
    optimiser = {"batch": 5, "micro_batch": micro_batch}
    settings = settings_of(stage, data, reconstruction=ADVERSARIAL, optimiser=optimiser)
    train(stage_of(settings, world=world), settings, world, start=0, output=output, run={}, say=lambda line: None)


@pytest.mark.slow
def test_two_workers_follow_the_losses_of_one(data, tmp_path):
    root, place = str(Path(__file__).parents[3]), str(tmp_path / "join")
    code = TWO.format(root=root)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), data, str(tmp_path / "two"), place],
            cwd=root,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    for stage in ("autoencoder", "motion"):
        loop(stage, data, str(tmp_path / "one" / stage), World())
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0]
    for stage in ("autoencoder", "motion"):
        one, two = (losses(tmp_path / number / stage) for number in ("one", "two"))
        assert list(one) == list(two) == [1, 2, 3, 4, 5, 6]
        # Sums in another order: rounding alone, which six steps make larger.
        assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-3)


# --- From folder to folder -------------------------------------------------------------------------------------


def work(job):
    lines = []
    run_worker(job, World(), lines.append)
    return lines


def test_a_model_folder_comes_out_that_says_how_it_was_trained(data, tiny_model, tmp_path):
    first = TrainJob(settings_of("autoencoder", data, steps=2), str(tiny_model.path), str(tmp_path / "a"), "one")
    assert is_fresh(tiny_model, "autoencoder")
    lines = work(first)
    assert any("SUBSTITUTE for VGG-19" in line for line in lines)
    phase1 = ModelFolder.open(tmp_path / "a" / "model")
    phase1.verify()
    assert (phase1.name, phase1.trained, len(phase1.history)) == ("one", False, 1)
    entry = phase1.history[0]
    assert (entry["stage"], entry["steps"], entry["parent"]) == ("autoencoder", 2, tiny_model.hash)
    assert "SUBSTITUTE" in entry["perceptual"]
    assert not is_fresh(phase1, "autoencoder")
    assert is_fresh(phase1, "motion")
    second = TrainJob(settings_of("motion", data, steps=2), str(phase1.path), str(tmp_path / "b"), "two")
    work(second)
    phase2 = ModelFolder.open(tmp_path / "b" / "model")
    assert phase2.trained
    assert [entry["stage"] for entry in phase2.history] == ["autoencoder", "motion"]
    assert phase2.encoders_hash() == phase1.encoders_hash() != tiny_model.encoders_hash()
    assert len({tiny_model.hash, phase1.hash, phase2.hash}) == 3
    load_float(phase2)


def test_a_decoder_trained_alone_leaves_latents_and_transformer_valid(data, tiny_model, tmp_path):
    alone = settings_of("autoencoder", data, steps=2, reconstruction={"decoder_only": True})
    with pytest.raises(DataError, match="encoder is untrained"):
        check_data(alone, tiny_model)
    whole = TrainJob(settings_of("autoencoder", data, steps=2), str(tiny_model.path), str(tmp_path / "a"), "whole")
    work(whole)
    parent = ModelFolder.open(tmp_path / "a" / "model")
    check_data(alone, parent)
    work(TrainJob(alone, str(parent.path), str(tmp_path / "b"), "sharper"))
    made = ModelFolder.open(tmp_path / "b" / "model")
    assert made.hash != parent.hash
    assert made.encoders_hash() == parent.encoders_hash()
    assert [entry.get("decoder_only") for entry in made.history] == [None, True]
    with pytest.raises(SettingError, match="decoder_only: curves, curve_changes and unit_motion"):
        ReconstructionSettings(decoder_only=True, curves=1)


def test_what_cannot_be_trained_is_reported_before_workers_start(data, tiny_model, tmp_path):
    assert check_data(settings_of("autoencoder", data), tiny_model) == {"train": 2, "validation": 1, "test": 0}
    with pytest.raises(DataError, match=r"jobs\.prepare creates it"):
        check_data(settings_of("autoencoder", str(tmp_path)), tiny_model)
    with pytest.raises(DataError, match="auto-encoder is untrained"):
        check_data(settings_of("motion", data), tiny_model)
    with pytest.raises(DataError, match="for the transformer"):
        check_data(settings_of("autoencoder", data, adapter=AdapterSettings(rank=2)), tiny_model)
    trained = dataclasses.replace(tiny_model, trained=True)
    check_data(settings_of("motion", data), trained)
    foreign = write_prepared(str(tmp_path / "foreign"), metadata={"encoders_hash": "other"})
    with pytest.raises(DataError, match="another auto-encoder or with other speech encoders"):
        check_data(settings_of("motion", foreign), trained)
    own = write_prepared(str(tmp_path / "own"), metadata={"encoders_hash": tiny_model.encoders_hash()})
    check_data(settings_of("motion", own), trained)


def test_vgg_weights_are_named_by_their_hash(data, tiny_model, tmp_path):
    torch.manual_seed(0)
    state, inputs = {}, 3
    for place, width in zip(
        (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28), (64, 64, 128, 128, *(256,) * 4, *(512,) * 5), strict=True
    ):
        state[f"features.{place}.weight"] = torch.randn(width, inputs, 3, 3) * (2 / (9 * inputs)) ** 0.5
        state[f"features.{place}.bias"] = torch.zeros(width)
        inputs = width
    torch.save(state, tmp_path / "vgg19.pth")
    settings = settings_of(
        "autoencoder", data, steps=1, optimiser={"batch": 1}, reconstruction={"vgg": str(tmp_path / "vgg19.pth")}
    )
    lines = work(TrainJob(settings, str(tiny_model.path), str(tmp_path / "out"), "vgg"))
    history = json.loads((tmp_path / "out" / "model" / "config.json").read_text())["history"]
    assert history[0]["perceptual"].startswith("VGG-19, SHA-256 ")
    assert f"perceptual loss: {history[0]['perceptual']}" in lines
