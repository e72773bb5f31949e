"""The study's instruments on arrays whose answers are known in advance."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models import EMOTIONS, load_float
from models.pixels import to_tensor
from pipeline.evaluation.bootstrap import Estimate, mean, median, of_sums, ratio
from pipeline.report.charts import dot_chart, line_chart
from pipeline.research.corpus.units import CURVES
from pipeline.research.study.ablations import Line, orderings_of, settings_of
from pipeline.research.study.clips import PLACE, SMILE, StudyError, every, unwatched
from pipeline.research.study.codes import LatentClip, Setting, read_latents
from pipeline.research.study.emotions import accuracy, clip_statistics, confusion, fit_classifier, recognised, smile
from pipeline.research.study.latent import fit_instrument, motion_metrics
from pipeline.research.study.metric import CLAIMS, Claim, Metric, claim_rows
from pipeline.research.study.orderings import FLOAT_VARIANT
from pipeline.research.study.probe import fit_probe, mean_r2, r2, within_clips
from pipeline.research.study.reader import SIDE, Reader, mirrored, train_reader
from pipeline.research.study.reconstruction import PairScores, paired_metrics, reconstruction_metrics
from pipeline.research.study.run import open_split
from pipeline.research.study.settings import AblationSettings, ReaderSettings
from pipeline.research.study.speech import Speaking, Spoken, best_lag, compare, lag_curve, speech_metrics
from pipeline.research.study.texts import text_metric
from pipeline.training.frames import gradient_energy
from pipeline.training_data.shards import CLIP_SCHEMA, write_shard
from tests.prepared import sample, write_prepared


def people(number, each):
    return [f"speaker {i}" for i in range(number) for _ in range(each)]


# --- Intervals ---------------------------------------------------------------------------------------------------


def test_interval_of_a_mean_over_speakers_is_that_of_the_speakers_means():
    draw = np.random.default_rng(0)
    own = draw.normal(3, 1, 100)  # one value a speaker, said fifty times
    found = mean(np.repeat(own, 50), people(100, 50))
    half = 1.96 * own.std() / 10
    assert found.value == pytest.approx(own.mean())
    assert found.low == pytest.approx(own.mean() - half, abs=0.04)
    assert found.high == pytest.approx(own.mean() + half, abs=0.04)
    assert (found.speakers, found.count) == (100, 5000)


def test_interval_covers_the_truth_in_about_95_of_100_cases():
    covered = 0
    for trial in range(200):
        values = np.random.default_rng(trial).normal(0, 1, 30)
        found = mean(values, people(30, 1), seed=trial)
        covered += found.low <= 0 <= found.high
    assert 0.88 <= covered / 200 <= 0.99  # percentile intervals of 30 are a little narrow


def test_one_speaker_has_no_interval_and_nothing_has_no_value():
    assert mean(np.ones(5), ["a"] * 5) == Estimate(1.0, None, None, 1, 5)
    assert mean(np.zeros(0), []) == Estimate(None, None, None, 0, 0)
    assert median(np.array([np.nan]), ["a"]).value is None


def test_values_that_are_not_finite_are_left_out_and_not_counted():
    found = median(np.array([1.0, np.nan, 3.0, 2.0]), ["a", "a", "b", "c"])
    assert (found.value, found.count, found.speakers) == (2.0, 3, 3)


def test_a_ratio_is_of_the_sums():
    found = ratio(np.array([1.0, 9.0]), np.array([10.0, 10.0]), ["a", "b"])
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.1, 0.9))


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(1).normal(size=40)
    assert median(values, people(8, 5), seed=3) == median(values, people(8, 5), seed=3)


# --- Claims ------------------------------------------------------------------------------------------------------


def test_a_claim_is_met_only_by_its_value_and_says_where_the_interval_reaches_outside():
    claim = Claim("x", low=4.0)
    assert claim.verdict(Estimate(4.5, 4.1, 5.0, 9, 9)) == "met"
    assert claim.verdict(Estimate(4.5, 3.9, 5.0, 9, 9)) == "met, but the interval reaches outside"
    assert claim.verdict(Estimate(3.9, 3.5, 4.2, 9, 9)) == "not met"
    assert claim.verdict(Estimate(None, None, None, 0, 0)) == "not measured"


def test_a_metric_that_was_not_measured_is_reported_as_such():
    metric = Metric("probe.yaw", "yaw", Estimate(0.9, 0.88, 0.92, 5, 100))
    verdicts = {row[0]: row[3] for row in claim_rows([metric], CLAIMS)}
    assert verdicts.pop("yaw") == "met"
    assert set(verdicts.values()) == {"not measured"}


# --- Reconstruction ----------------------------------------------------------------------------------------------


def scores(made, shuffled, copy=20.0, energy=1.0):
    columns = {}
    for region in ("whole", "mouth"):
        columns[f"{region}.reconstruction"], columns[f"{region}.shuffled"] = list(made), list(shuffled)
        columns[f"{region}.copy"] = [copy] * len(made)
        columns[f"{region}.made"], columns[f"{region}.true"] = [energy] * len(made), [1.0] * len(made)
    return PairScores(people(3, len(made) // 3), columns)


def test_a_model_that_makes_the_same_of_every_frame_is_nothing_over_shuffled():
    made = np.random.default_rng(0).normal(25, 2, 30)
    found = {metric.key: metric.estimate for metric in reconstruction_metrics(scores(made, made))}
    assert found["reconstruction.mouth.over_shuffled"] == Estimate(0.0, 0.0, 0.0, 3, 30)


def test_differences_are_of_the_true_frame_less_the_other_and_the_copy():
    found = {f.key: f.estimate.value for f in reconstruction_metrics(scores(np.full(6, 26.0), np.full(6, 21.0)))}
    assert found["reconstruction.mouth.over_shuffled"] == pytest.approx(5)
    assert found["reconstruction.whole.over_copy"] == pytest.approx(6)
    assert found["reconstruction.whole.gradient_energy"] == pytest.approx(1)


def test_two_models_are_compared_pair_by_pair():
    people_differ = np.linspace(20, 35, 30)
    first, other = scores(people_differ, people_differ), scores(people_differ + 0.2, people_differ)
    for metric in paired_metrics(other, first):
        assert (metric.estimate.value, metric.estimate.low, metric.estimate.high) == pytest.approx((0.2, 0.2, 0.2))


def test_a_blurred_image_has_less_gradient_energy_and_noise_has_more():
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    soft = torch.nn.functional.avg_pool2d(picture, 3, 1, 1, count_include_pad=False)
    assert bool((gradient_energy(soft) < 0.3 * gradient_energy(picture)).all())
    assert bool((gradient_energy(picture + 0.5 * torch.randn_like(picture)) > gradient_energy(picture)).all())


def test_gradient_energy_of_a_ramp_is_its_slope_squared():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) * 0.5  # 8 rows of 7 differences of 0.5
    assert gradient_energy(ramp).item() == pytest.approx(56 * 0.25)
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:5, 2:5] = 1  # 3 rows of 2 differences
    assert gradient_energy(ramp, mask).item() == pytest.approx(6 * 0.25)


# --- Probe -------------------------------------------------------------------------------------------------------


def planted(noise=0.0, frames=400):
    draw = np.random.default_rng(2)
    codes, weight = draw.normal(size=(frames, 6)) * (1, 10, 0.1, 1, 1, 1), draw.normal(size=(6, 4))
    return codes, codes @ weight + 0.7 + noise * draw.normal(size=(frames, 4))


def test_the_probe_finds_a_planted_linear_map():
    codes, curves = planted()
    probe = fit_probe(codes[:200], curves[:200], ridge=1e-9)
    speakers = people(10, 20)
    assert mean_r2(probe(codes[200:]), curves[200:], speakers).value == pytest.approx(1, abs=1e-6)
    assert r2(probe(codes[200:])[:, 0], curves[200:, 0], speakers).value == pytest.approx(1, abs=1e-6)


def test_the_probe_finds_nothing_in_curves_of_other_frames():
    codes, curves = planted(frames=4000)
    probe = fit_probe(codes[:2000], np.random.default_rng(0).permutation(curves[:2000]))
    assert abs(mean_r2(probe(codes[2000:]), curves[2000:], people(10, 200)).value) < 0.03


def test_within_clips_what_differs_between_people_is_gone():
    clips, moves = np.array([4, 4, 9, 9]), np.array([-1.0, 1, -2, 2])
    assert np.array_equal(within_clips(moves + 10 * clips, clips), moves)


def test_r2_of_the_mean_is_0_and_of_something_worse_below():
    true = np.random.default_rng(0).normal(size=60)
    assert r2(np.full(60, true.mean()), true, people(6, 10)).value == pytest.approx(0, abs=1e-9)
    assert r2(-true, true, people(6, 10)).value < 0


# --- Speech ------------------------------------------------------------------------------------------------------


def mouth(seed, frames=200):
    kernel = np.hanning(7)
    return np.convolve(np.random.default_rng(seed).random(frames + 40), kernel / kernel.sum(), "same")[20:-20]


@pytest.mark.parametrize("late", [-4, 0, 3])
def test_the_lag_of_a_shifted_mouth_is_its_shift(late):
    true = mouth(0)
    assert best_lag(lag_curve(np.roll(true, late), true)) == late


def test_frames_without_a_face_are_left_out_of_a_correlation():
    true = mouth(0)
    found = np.where(np.arange(200) % 9 == 0, np.nan, true)
    assert lag_curve(found, true)[10] == pytest.approx(1)


def spoken(copies):
    """Clips whose rendered mouth is the video's, or that of nobody."""
    clips = []
    for number in range(12):
        true_mouth = mouth(number)
        made = true_mouth if copies else mouth(100 + number)
        series = {"film.landmarks": true_mouth, "rendered.landmarks": made, "rig": true_mouth}
        clips.append(Spoken(f"clip {number}", f"speaker {number // 2}", series))
    return Speaking(clips)


def test_a_mouth_that_follows_the_video_correlates_with_it_and_not_with_others():
    found = {metric.key: metric.estimate.value for metric in speech_metrics(spoken(True))[0]}
    assert found["speech.landmarks.correlation"] == pytest.approx(1)
    assert found["speech.landmarks.lag"] == 0
    assert abs(found["speech.landmarks.shuffled"]) < 0.1
    assert found["speech.landmarks.near"] == 1


def test_a_mouth_of_its_own_correlates_with_nothing_though_its_best_lag_may_look_good():
    found = {metric.key: metric.estimate.value for metric in speech_metrics(spoken(False))[0]}
    assert abs(found["speech.landmarks.correlation"]) < 0.2
    assert found["speech.landmarks.best"] > found["speech.landmarks.correlation"]


def test_a_single_clip_is_compared_with_no_other():
    metrics, _, notes = speech_metrics(Speaking(spoken(True).clips[:1]))
    assert not [metric for metric in metrics if metric.key == "speech.landmarks.correlation"]
    assert any("at least two" in note for note in notes)


def test_strangers_are_never_the_clip_itself():
    found = compare(spoken(True).clips[:2], "rendered.landmarks", "film.landmarks")
    assert np.all(np.abs(found.strangers[:, 10]) < 0.5)


# --- Emotions ----------------------------------------------------------------------------------------------------


def shown(seed, emotion, frames=40):
    """Curves of a clip in which the unit of the emotion's number is up."""
    curves = 0.1 * np.random.default_rng(seed).random((frames, len(CURVES)))
    curves[:, 3 * emotion] += 0.5
    return curves.astype(np.float32)


def test_the_classifier_tells_planted_emotions_of_other_clips():
    labels = np.arange(70) % 7
    classifier = fit_classifier(np.array([clip_statistics(shown(i, e)) for i, e in enumerate(labels)]), labels)
    found = classifier(np.array([clip_statistics(shown(1000 + i, e)) for i, e in enumerate(labels)]))
    assert accuracy(labels, found, people(7, 10)).value == 1
    assert recognised(labels, found, people(7, 10)).value == 7
    assert np.array_equal(confusion(labels, found), 10 * np.eye(7, dtype=int))


def test_an_emotion_counts_as_recognised_only_if_no_other_is_seen_as_often():
    wanted = np.repeat(np.arange(7), 4)
    found = wanted.copy()
    found[:2] = 1  # angry: two of four are seen as disgust
    found[4:7] = 0  # disgust: three of four as angry
    assert recognised(wanted, found, people(4, 7)).value == 5


def test_a_classifier_of_noise_is_right_once_in_seven():
    draw = np.random.default_rng(0)
    labels = np.arange(210) % 7
    classifier = fit_classifier(draw.normal(size=(210, 30)), labels, decay=0.1)
    found = classifier(draw.normal(size=(700, 30)))
    assert accuracy(np.arange(700) % 7, found, people(70, 10)).value == pytest.approx(1 / 7, abs=0.05)
    assert EMOTIONS[4] == "neutral"


def test_a_smile_is_the_mean_of_both_corners():
    curves = np.zeros((5, len(CURVES)))
    curves[:, PLACE[SMILE[0]]] = 0.4
    assert smile(curves) == pytest.approx(0.2)


# --- Motion codes ------------------------------------------------------------------------------------------------


def latent_clips(clips=8, frames=100):
    """Clips whose first codes are jaw, smile and yaw themselves."""
    found = []
    for number in range(clips):
        codes = np.stack([mouth(10 * number + i, frames) for i in range(4)], axis=1)
        curves = np.zeros((frames, len(CURVES)), np.float32)
        for column, name in enumerate(("jawOpen", "mouthSmileLeft", "yaw", "pitch")):
            curves[:, PLACE[name]] = codes[:, column]
        blank = np.zeros((frames, 6), np.float32)
        found.append(
            LatentClip(
                f"clip {number}",
                f"speaker {number // 2}",
                number % 7,
                codes,
                codes[0],
                blank,
                np.ones(7),
                blank,
                curves,
            )
        )
    return found


def found_of(clips, codes):
    instrument = fit_instrument(clips)
    return {metric.key: metric.estimate for metric in motion_metrics(instrument, clips, codes)}


def test_true_motion_is_its_own_ceiling():
    clips = latent_clips()
    found = found_of(clips, [clip.codes for clip in clips])
    assert found["jaw.correlation"].value == pytest.approx(1, abs=1e-3)
    assert found["jaw.lag"].value == 0
    assert found["jaw.spread"].value == pytest.approx(1)
    assert found["head.range"].value == pytest.approx(1)
    assert found["mouth.error"].value < 1e-3
    assert found["frechet"].value == pytest.approx(0, abs=1e-9)
    assert abs(found["jaw.shuffled"].value) < 0.2


def test_motion_that_is_late_and_halved_is_reported_as_such():
    clips = latent_clips()
    late = [clip.codes.mean(0) + 0.5 * (np.roll(clip.codes, 3, axis=0) - clip.codes.mean(0)) for clip in clips]
    found = found_of(clips, late)
    assert found["jaw.lag"].value == 3
    assert found["jaw.spread"].value == pytest.approx(0.5)
    assert found["head.range"].value == pytest.approx(0.5)
    assert found["mouth.error"].value > 0.01
    # Codes have covariance S and S / 4: tr(S + S/4 - 2 sqrt(S S/4)) = tr(S) / 4, and the means are near.
    assert found["frechet"].value == pytest.approx(0.25, abs=0.03)


def test_the_instrument_tells_emotions_in_codes_only_where_clips_have_some():
    clips = latent_clips()
    assert fit_instrument(clips).classifier is not None
    assert fit_instrument([dataclasses.replace(clip, emotion=None) for clip in clips]).classifier is None


def test_latents_of_another_model_are_refused(tmp_path, tiny_model):
    data = write_prepared(str(tmp_path), metadata={"encoders_hash": "another"})
    with pytest.raises(StudyError) as refused:
        read_latents(load_float(tiny_model), tiny_model.encoders_hash(), data, ["train"], 4, 50)
    assert refused.value.code == "latents_of_another_model"
    with pytest.raises(StudyError) as refused:
        read_latents(load_float(tiny_model), tiny_model.encoders_hash(), data, ["test"], 4, 50)
    assert refused.value.code == "split_empty"


def test_settings_change_one_thing_at_a_time_and_none_comes_twice():
    found = settings_of(AblationSettings(), "flow")
    assert found[0] == Setting(nfe=10)
    assert len(found) == len(set(found)) == 1 + 4 + 3 + 4
    assert all((one.nfe != 10) + (one.audio_scale != 2) + (one.emotion_scale != 1) <= 1 for one in found)
    assert {one.nfe for one in settings_of(AblationSettings(), "epsilon")} == {50}


def test_an_order_that_is_not_the_papers_is_reported_and_one_without_both_lines_is_left_out():
    def line(name, value, **variant):
        metrics = [Metric("jaw.correlation", "", Estimate(value, value - 0.05, value + 0.05, 9, 9))]
        return Line(name, Setting(nfe=10).name, metrics, FLOAT_VARIANT | variant)

    lines = [line("ours", 0.6), line("cross", 0.7, conditioning="cross_attention")]
    (told,) = orderings_of(lines)
    assert "AdaLN over cross-attention" in told
    assert "REVERSED" in told
    assert "the difference may be chance" in told
    (told,) = orderings_of([line("ours", 0.8), line("cross", 0.6, conditioning="cross_attention")])
    assert "the order is the same here: " in told


# --- Texts -------------------------------------------------------------------------------------------------------


def test_held_out_texts_that_training_clips_have_are_not_new(tmp_path):
    rows = [{"clip_id": f"{who}-{i}", "text": f"{who} {i}"} for who in "ab" for i in range(2)]
    rows[3]["text"] = rows[0]["text"]
    (tmp_path / "truth").mkdir()
    for who in "ab":
        table = pa.Table.from_pylist([row for row in rows if row["clip_id"].startswith(who)])
        pq.write_table(table, tmp_path / "truth" / f"{who}.parquet")
    folder = tmp_path / "data"
    for who, split in (("a", "train"), ("b", "test")):
        parts = [
            sample(i)
            | {
                "clip_id": f"{who}-{i}-0",
                "split": split,
                "speaker": who,
                "source": f"{tmp_path}/videos/{who}/{who}-{i}.mp4",
            }
            for i in range(2)
        ]
        write_shard(parts, str(folder / "clips" / f"{who}.parquet"), CLIP_SCHEMA, tmp_path)
    train, held_out = open_split(str(folder), ["train"]), open_split(str(folder), ["test"])
    assert text_metric(str(tmp_path), train, held_out).estimate.value == 0.5
    with pytest.raises(StudyError, match="give the corpus"):
        text_metric(str(tmp_path / "other"), train, held_out)


# --- Reader ------------------------------------------------------------------------------------------------------


def test_a_mirror_swaps_sides_and_turns_the_head():
    torch.manual_seed(0)
    curves = torch.zeros(64, len(CURVES))
    curves[:, PLACE["mouthSmileLeft"]], curves[:, PLACE["yaw"]], curves[:, PLACE["pitch"]] = 1.0, 0.3, 0.2
    images = torch.arange(4.0).expand(64, 3, 4, 4)
    flipped, known = mirrored(images, curves)
    turned = flipped[:, 0, 0, 0] == 3
    assert 10 < int(turned.sum()) < 54
    assert bool((known[turned, PLACE["mouthSmileRight"]] == 1).all())
    assert bool((known[turned, PLACE["mouthSmileLeft"]] == 0).all())
    assert torch.allclose(known[:, PLACE["yaw"]], torch.where(turned, -0.3, 0.3))
    assert torch.allclose(known[:, PLACE["pitch"]], torch.full((64,), 0.2))


@pytest.mark.slow
def test_the_reader_learns_how_far_a_drawn_mouth_is_open_and_is_the_same_from_its_file(tmp_path):
    draw = np.random.default_rng(0)
    opening = draw.random(160).astype(np.float32)
    pictures = np.full((160, SIDE, SIDE, 3), 180, np.uint8)
    for picture, how in zip(pictures, opening, strict=True):
        picture[40 : 41 + int(12 * how), 24:40] = 20
        picture += draw.integers(0, 10, picture.shape, dtype=np.uint8)
    curves = np.zeros((160, len(CURVES)), np.float32)
    curves[:, PLACE["jawOpen"]] = opening
    settings = ReaderSettings(epochs=6, batch=8)
    reader = train_reader(pictures[:120], curves[:120], settings, watch=unwatched)
    faces = to_tensor(pictures[120:])
    found = reader.read_faces(faces)
    assert np.corrcoef(found[:, PLACE["jawOpen"]], opening[120:])[0, 1] > 0.9
    reader.save(str(tmp_path / "reader.safetensors"))
    again = Reader.load(str(tmp_path / "reader.safetensors"))
    assert np.array_equal(again.read_faces(faces), found)
    assert Reader.load(str(tmp_path / "none.safetensors")) is None


# --- Pages -------------------------------------------------------------------------------------------------------


def test_charts_draw_what_is_known_and_say_where_nothing_is():
    one, none = Estimate(0.5, 0.4, 0.6, 9, 9), Estimate(None, None, None, 0, 0)
    drawn = dot_chart("of <two>", [one.dot("a"), none.dot("b")])
    assert drawn.count("<circle") == 1
    assert "of &lt;two&gt;" in drawn
    assert "nothing was measured" in dot_chart("x", [none.dot("b")])
    drawn = line_chart("x", (-1, 0, 1), {"a": [0, 1, 0], "b": [0, 0, 0]}, "lag", zero=True)
    assert drawn.count("<polyline") == 2


def test_frames_are_spread_over_a_clip_and_never_twice():
    assert every(10, 3) == [0, 4, 9]
    assert every(3, 10) == [0, 1, 2]


def test_sums_keep_their_speakers_together():
    rows = np.array([[1.0, 1], [3, 1], [5, 1]])
    found = of_sums(lambda s: s[..., 0] / s[..., 1], rows, ["a", "a", "b"])
    assert (found.low, found.high) == (2.0, 5.0)
