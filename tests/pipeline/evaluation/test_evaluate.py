"""Metrics of an evaluation against answers known in advance: numbers alone, no video."""

import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from pipeline.common.errors import ManifestError
from pipeline.evaluation import published
from pipeline.evaluation.bootstrap import interval
from pipeline.evaluation.compare import face_distance, in_step
from pipeline.evaluation.files import RowFile
from pipeline.evaluation.frechet import CHUNK, Moments, frechet_distance
from pipeline.evaluation.landmarks import MOUTH, best_lag, landmark_distance
from pipeline.evaluation.metrics import ALL, SET_METRICS, metric_table
from pipeline.evaluation.pairs import read_pairs
from pipeline.evaluation.pixel_metrics import psnr, squared_error, ssim
from pipeline.evaluation.systems import REAL, distances, halves, means
from pipeline.face.head_pose import MESH
from pipeline.ledger.done_store import DONE
from pipeline.manifest.noticed import Notices

RANDOM = np.random.default_rng(0)


# --- Fréchet distance ------------------------------------------------------------------------------------------


def moments(rows):
    found = Moments.zero(rows.shape[1])
    found.add(rows)
    return found


def normal(mean, covariance, count=100_000):
    """Moments of a normal distribution, exactly."""
    mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
    return Moments(count, mean, covariance * (count - 1))


def test_two_normal_distributions_on_a_line_are_as_far_apart_as_the_formula_says():
    # (m1 - m2)^2 + (s1 - s2)^2
    assert frechet_distance(normal([1], [[4]]), normal([4], [[0.25]])) == pytest.approx(9 + 2.25)


def test_covariances_that_do_not_commute_give_the_closed_form_of_two_dimensions():
    one, other = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.5], [-0.5, 3.0]])
    product = one @ other  # tr sqrt(M) = sqrt(tr M + 2 sqrt(det M))
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    wanted = 1 + np.trace(one) + np.trace(other) - 2 * root
    assert frechet_distance(normal([0, 0], one), normal([0, 1], other)) == pytest.approx(wanted)
    assert frechet_distance(normal([0, 1], other), normal([0, 0], one)) == pytest.approx(wanted)


def test_samples_of_two_distributions_come_near_the_formula():
    one = RANDOM.normal(0, 1, (20_000, 3))
    other = RANDOM.normal(0, 1, (20_000, 3)) * (1, 2, 3) + (5, 0, 0)
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(25 + 1 + 4, rel=0.03)


def test_a_set_and_itself_are_at_no_distance_even_where_its_covariance_is_singular():
    full, few = RANDOM.normal(3, 2, (500, 16)), RANDOM.normal(3, 2, (10, 16))
    assert frechet_distance(moments(full), moments(full)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(moments(few), moments(few)) == pytest.approx(0, abs=1e-6)


def test_moments_taken_in_parts_and_merged_are_those_of_the_whole():
    rows = RANDOM.normal(0, 1, (CHUNK + 777, 5)).astype(np.float32) + np.float32(1000)
    whole = moments(rows)
    parts = [moments(part) for part in np.split(rows, [1, 50, 2000, CHUNK + 1])]
    merged = Moments.zero(5)
    for part in reversed(parts):
        merged.merge(part)
    merged.merge(Moments.zero(5))
    assert merged.count == whole.count == len(rows)
    exact = np.cov(rows.astype(np.float64), rowvar=False)
    for found in (whole, merged):
        np.testing.assert_allclose(found.mean, rows.mean(0, dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, exact, atol=1e-9)


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="two samples"):
        frechet_distance(moments(np.zeros((1, 2))), moments(np.zeros((5, 2))))


# --- Pictures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [1, 5, 30])
def test_a_constant_shift_has_the_psnr_of_the_formula(shift):
    picture = RANDOM.integers(0, 200, (40, 60), dtype=np.uint8)
    found = psnr(squared_error(picture, picture + np.uint8(shift)))
    assert found == pytest.approx(20 * np.log10(255 / shift), abs=1e-5)
    assert psnr(0.0) == float("inf")


def test_ssim_of_an_image_with_itself_is_one():
    picture = RANDOM.integers(0, 255, (40, 60), dtype=np.uint8)
    assert ssim(picture, picture) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("a", "b"), [(0, 255), (100, 110), (200, 50)])
def test_ssim_of_two_plain_images_is_its_term_of_luminance(a, b):
    c1 = (0.01 * 255) ** 2
    wanted = (2 * a * b + c1) / (a * a + b * b + c1)
    pictures = (np.full((20, 20), value, np.uint8) for value in (a, b))
    assert ssim(*pictures) == pytest.approx(wanted, abs=1e-5)


def test_ssim_of_one_window_is_the_formula_with_gaussian_weights():
    x, y = RANDOM.integers(0, 255, (2, 11, 11)).astype(float)
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(bell, bell) / bell.sum() ** 2
    mx, my = (weights * x).sum(), (weights * y).sum()
    vx, vy = (weights * (x - mx) ** 2).sum(), (weights * (y - my) ** 2).sum()
    cov = (weights * (x - mx) * (y - my)).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    wanted = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(x.astype(np.uint8), y.astype(np.uint8)) == pytest.approx(wanted, abs=1e-4)


# --- Landmarks -------------------------------------------------------------------------------------------------


@pytest.fixture
def face():
    """Landmarks whose eyes are 80 px apart."""
    return (80 * np.load(MESH)[:, :2] * (1, -1) + 200).astype(np.float32)


def test_a_face_elsewhere_and_larger_is_at_no_distance(face):
    assert landmark_distance(face, face) == (0, 0)
    assert landmark_distance(2.5 * face + (31, -7), face) == pytest.approx((0, 0), abs=1e-6)


def test_lips_that_are_open_are_at_the_distance_that_they_moved(face):
    moved, lower = face.copy(), list(MOUTH[:10])
    moved[lower, 1] += 8  # a tenth of the eyes' distance, 10 of 40 landmarks, 468 in all
    lmd, m_lmd = landmark_distance(moved, face)
    assert m_lmd == pytest.approx(0.1 * 2 * 10 * 30 / 40**2, rel=1e-4)
    assert lmd == pytest.approx(0.1 * 2 * 10 * 458 / 468**2, rel=1e-4)
    away = face.copy()
    away[list(MOUTH), 1] += 8  # the whole mouth: its own metric knows its shape alone
    assert landmark_distance(away, face)[1] == pytest.approx(0, abs=1e-6)
    assert len(set(MOUTH)) == 40


def test_the_lag_of_a_mouth_is_found_with_its_sign():
    curve = np.convolve(RANDOM.normal(size=210), np.ones(5) / 5, "valid")
    late = np.concatenate([curve[:4], curve[:-4]])
    assert best_lag(curve, curve, 25.0) == pytest.approx((1, 0))
    correlation, lag = best_lag(late, curve, 25.0)
    assert correlation == pytest.approx(1, abs=0.02)
    assert lag == 160
    assert best_lag(curve, late, 25.0)[1] == -160
    gone = late.copy()
    gone[50:60] = np.nan
    assert best_lag(gone, curve, 25.0)[1] == 160
    assert best_lag(np.full(100, 0.3), curve[:100], 25.0) is None


# --- Two videos in step ----------------------------------------------------------------------------------------


def test_equal_clocks_pair_frame_by_frame_whatever_their_first_time():
    clock = np.arange(10) / 25
    assert in_step(clock, clock + 3).tolist() == list(range(10))


def test_another_frame_rate_takes_the_nearest_frame():
    found = in_step(np.arange(50) / 25, np.arange(60) / 30)
    wanted = np.round(np.arange(50) / 25 * 30)
    assert np.abs(found - wanted).max() <= 1
    assert np.abs(found / 30 - np.arange(50) / 25).max() <= 0.5 / 30 + 1e-9


def test_the_shorter_video_ends_the_comparison():
    long, short = np.arange(100) / 25, np.arange(40) / 25
    assert in_step(long, short).tolist() == list(range(40))
    assert in_step(short, long).tolist() == list(range(40))
    assert in_step(long, np.zeros(0)).tolist() == []
    assert in_step(long, np.zeros(1)).tolist() == [0]


# --- Whole systems ---------------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_is_that_of_a_normal_distribution_where_there_are_many():
    values = RANDOM.normal(10, 2, 400)
    low, high = interval(values.tolist(), seed=0)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high
    assert interval(values.tolist(), seed=0) == (low, high)
    assert interval([1.0], seed=0) == (None, None)


def test_halves_are_by_video_random_and_repeatable():
    names = [f"v{i}" for i in range(21)]
    one, other = halves(names, seed=3)
    assert (len(one), len(other)) == (11, 10)
    assert set(one) | set(other) == set(names)
    assert halves(reversed(names), seed=3) == (one, other)
    assert halves(names, seed=4) != (one, other)


def row(number, system, reference, **metrics):
    empty = {metric.column: None for metric in ALL if metric not in SET_METRICS}
    empty |= {f"reference_{metric.column}": None for metric in ALL if metric.of_video}
    known = {"row": number, "system": system, "reference": reference, "generated": f"{system}-{reference}"}
    return empty | known | {"status": "done", **metrics}


def test_means_leave_empty_cells_out_and_say_why_a_metric_is_empty():
    rows = [
        row(1, "a", "r1", psnr=30.0, face_share=1.0, reference_face_share=0.5),
        row(2, "a", "r2", psnr=34.0, face_share=1.0, reference_face_share=1.0),
        row(3, "a", "r2", face_share=1.0, reference_face_share=1.0),
        {"row": 4, "system": "b", "reference": "r1", "generated": "x", "status": "rejected"},
    ]
    missing = {"csim": "identity_model= was not given"}
    found = {(result.system, result.figure): result for result in means(rows, missing, seed=0)}
    assert found["a", "psnr"].value == 32
    assert (found["a", "psnr"].count, found["a", "psnr"].note) == (2, "1 of 3 pairs have no value")
    assert (found["a", "csim"].value, found["a", "csim"].note) == (None, missing["csim"])
    assert found["a", "ssim"].note == "no pair has a value: see their notes"
    assert found["b", "psnr"].value is None
    assert found["b", "psnr"].note == "no pair of this system could be measured"
    assert found[REAL, "face_share"].value == 0.75  # each real video once


def embedded(fps, frames, looked_at, value):
    """Features of a video whose embeddings are `value` in the frames that were looked at, and missing in the others."""
    rows = np.full((frames, 128), np.nan, np.float32)
    rows[looked_at] = value
    return {"dlib": rows, "times": np.arange(frames) / fps}


def test_embeddings_of_videos_of_other_rates_are_compared_where_they_are_nearest_in_time():
    ours, theirs = embedded(25, 50, [0, 12, 24, 36, 48], 0.0), embedded(30, 60, [0, 15, 45], 0.5)
    theirs["dlib"][15] = 0.25  # no face at one second, and half a second is the nearest but too far away

    def distance(one, other, notes):
        partner = in_step(one["times"], other["times"])
        return face_distance(lambda kind: nullcontext(one[kind]), lambda kind: nullcontext(other[kind]), partner, notes)

    notes = []
    expected = np.mean([0.5, 0.25, 0.5]) * 128**0.5
    assert distance(ours, theirs, notes) == pytest.approx(expected)
    assert notes == []
    assert distance(ours, embedded(30, 60, [], 0.0), notes) is None
    assert notes == ["dlib_distance: no frame that it looks at has a face in both videos"]


@pytest.fixture
def kept(tmp_path):
    """Keeps features of videos as workers do; gives the rows of the videos."""

    def keep(**rows_of_kinds):
        videos = {}
        for name, kinds in rows_of_kinds.items():
            (tmp_path / DONE).mkdir(exist_ok=True)
            for kind, rows in kinds.items():
                file = RowFile(tmp_path / DONE, f"video-{name}.{kind}")
                for part in np.array_split(rows, 3):
                    file.add(part)
                assert file.save() == tmp_path / DONE / f"video-{name}.{kind}.npy"
            videos[name] = {"uri": name, "name": f"video-{name}", "features": list(kinds)}
        return videos

    return keep


def test_distances_and_floors_by_the_formula(kept, tmp_path):
    shapes = RANDOM.normal(0, 1, (400, 2))
    shapes = (shapes - shapes.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(shapes.T))).T  # covariance 1 exactly
    real = {"r1": shapes, "r2": shapes + np.array([3, 0])}
    videos = kept(
        **{name: {"inception": rows, "poses": np.zeros((2, 3))} for name, rows in real.items()},
        **{f"ours-{name}": {"inception": rows + np.array([0, 4])} for name, rows in real.items()},
    )
    rows = [row(1, "ours", "r1"), row(2, "ours", "r2")]
    missing = dict.fromkeys(("fvd", "e_fid", "p_fid"), "not given")
    found = {result.figure: result for result in distances(rows, videos, str(tmp_path), missing, seed=0)}
    fid = found["fid"]
    assert fid.value == pytest.approx(16, abs=1e-3)
    assert fid.floor == pytest.approx(9, abs=1e-3)  # between r1 and r2
    assert (fid.count, fid.reference_count, fid.dimension, fid.floor_counts) == (800, 800, 2, [400, 400])
    assert fid.note == ""
    assert (found["p_fid"].value, found["p_fid"].note) == (None, "not given")
    assert found["pose_distance_landmarks"].value is None
    assert found["pose_distance_landmarks"].note == "2 of 2 generated videos show no face (face_not_found)"


def test_fewer_samples_than_dimensions_are_remarked_on_and_not_hidden(kept, tmp_path):
    videos = kept(**{name: {"inception": RANDOM.normal(size=(6, 32))} for name in ("r1", "ours-r1")})
    (fid,) = [
        result
        for result in distances([row(1, "ours", "r1")], videos, str(tmp_path), {"e_fid": ""}, seed=0)
        if result.figure == "fid"
    ]
    assert fid.value > 0
    assert fid.floor is None
    assert "no floor: it takes two real videos" in fid.note
    assert "6 generated samples and 6 real samples for 32 dimensions: the covariance is singular" in fid.note


def test_videos_shorter_than_a_clip_have_no_fvd_and_say_so(kept, tmp_path):
    videos = kept(**{name: {"inception": np.zeros((4, 2))} for name in ("r1", "ours-r1")})
    found = {r.figure: r for r in distances([row(1, "ours", "r1")], videos, str(tmp_path), {}, seed=0)}
    why = "1 of 1 {} videos are shorter than 16 frames"
    assert (found["fvd"].value, found["fvd"].note) == (None, f"{why.format('generated')} and {why.format('real')}")


# --- Manifest and documents ------------------------------------------------------------------------------------


def test_a_manifest_gives_pairs_and_invalid_rows(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        '{"reference": "a.mp4", "generated": "s3://b/x.mp4", "system": "ours", "take": 3}\n'
        '{"reference": "a.mp4", "generated": "", "system": "ours"}\n'
        "nonsense\n"
        '{"reference": "s3://user:secret@b/a.mp4", "generated": "x.mp4", "system": 7}\n'
    )
    pairs, rejected = read_pairs(str(file))
    (pair,) = pairs
    assert (pair.reference, pair.generated) == (str(tmp_path / "a.mp4"), "s3://b/x.mp4")
    assert (pair.system, pair.extra) == ("ours", {"take": 3})
    assert [one.error.code for one in rejected] == ["value_missing", "row_unreadable", "uri_not_allowed"]
    assert "row 2 (line 2), column generated" in rejected[0].error.message
    assert "secret" not in str(rejected[2].values) + rejected[2].error.message


def test_a_manifest_is_read_as_spreadsheets_save_it(tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("Reference;generated;SYSTEM;x\na.mp4; b.mp4;ours;1\n;;;\nc.mp4;d.mp4;ours;1;2\n")
    notices = Notices()
    (pair,), (rejected,) = read_pairs(str(file), notices)
    assert (pair.generated, pair.system, pair.extra) == (str(tmp_path / "b.mp4"), "ours", {"x": "1"})
    assert rejected.error.message.startswith("row 3 (line 4): it has 5 values for 4 columns")
    assert "column 'Reference' is read as reference" in notices.sentences()


def test_a_manifest_without_a_column_is_refused(tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("reference,video\na.mp4,b.mp4\n")
    with pytest.raises(ManifestError, match="no column generated and no column system"):
        read_pairs(str(file))


def test_the_readme_lists_every_metric():
    text = (Path(__file__).parents[3] / "pipeline" / "evaluation" / "README.md").read_text()
    assert text.endswith(metric_table())


def test_published_metrics_are_said_to_be_published():
    assert re.search("neither our measurements nor directly comparable", published.HEADING)
    assert {len(values) for one in published.TABLE for values in (one.hdtf, one.ravdess)} == {len(published.METRICS)}
