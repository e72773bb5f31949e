"""Paired differences, the best system, the worst pairs and where videos come from: known answers, no video."""

import json

import numpy as np
import pytest

from pipeline.evaluation.bootstrap import LEAST, Estimate, mean, median
from pipeline.evaluation.differences import best_of, differences
from pipeline.evaluation.metrics import PAIR_METRICS
from pipeline.evaluation.sources import sources_of
from pipeline.evaluation.worst import EACH, PICTURED, to_picture, worst_pairs
from pipeline.ledger.table import RowSpool, write_table

NOTHING = dict.fromkeys(
    (*(metric.column for metric in PAIR_METRICS), *(f"reference_{metric.column}" for metric in PAIR_METRICS))
)


def pairs(systems, videos, **columns):
    """Rows; each column is a function of (place of the system, number of the video)."""
    rows = []
    for place, system in enumerate(systems):
        for number in range(videos):
            row = NOTHING | {"row": len(rows) + 1, "system": system, "status": "done"}
            row |= {"reference": f"/real/{number}.mp4", "generated": f"/{system}/videos/{number}.mp4"}
            rows.append(row | {name: value(place, number) for name, value in columns.items()})
    return rows


def test_a_small_difference_on_every_video_is_seen_although_the_intervals_of_the_means_overlap():
    rows = pairs("ab", 20, psnr=lambda place, number: 20.0 + 2 * number + 0.1 * place)
    (found,) = differences(rows)
    assert found.estimate.value == pytest.approx(-0.1)
    assert found.estimate.low == pytest.approx(-0.1)
    assert found.better == "b"
    assert best_of([found]) == {"psnr": "b"}
    one, other = (mean(np.array([row["psnr"] for row in rows if row["system"] == name]), range(20)) for name in "ab")
    assert one.high > other.low


def test_where_lower_is_better_the_lower_one_is_and_near_the_reference_is_near():
    rows = pairs("ab", 9, lmd=lambda place, number: 1.0 + place)
    assert [one.better for one in differences(rows)] == ["a"]
    rows = pairs("ab", 9, motion_range_deg=lambda place, number: 30.0 - 10 * place)
    for row in rows:
        row["reference_motion_range_deg"] = 18.0
    (found,) = differences(rows)
    assert found.estimate.value == pytest.approx(12 - 2)
    assert found.better == "b"


def test_few_videos_decide_nothing_and_noise_is_no_difference():
    few = list(differences(pairs("ab", LEAST - 1, psnr=lambda place, number: 20.0 + place)))
    assert [one.better for one in few] == [None]
    enough = list(differences(pairs("ab", LEAST, psnr=lambda place, number: 20.0 + place)))
    assert [one.better for one in enough] == ["b"]
    draw = np.random.default_rng(0)
    noise = list(differences(pairs("ab", 30, psnr=lambda place, number: float(draw.normal()))))
    assert best_of(noise) == {}


def test_the_best_is_better_than_each_of_the_others_and_only_common_videos_count():
    rows = pairs("abc", 8, psnr=lambda place, number: 20.0 + max(1, place) + number)
    assert best_of(list(differences(rows))) == {"psnr": "c"}
    tied = pairs("abc", 8, psnr=lambda place, number: 20.0 + min(1, place) + number)
    assert best_of(list(differences(tied))) == {}
    missing = [row for row in rows if row["system"] != "c" or row["reference"] < "/real/4"]
    counts = {(one.one, one.other): one.estimate.count for one in differences(missing)}
    assert counts == {("a", "b"): 8, ("a", "c"): 4, ("b", "c"): 4}
    assert best_of(list(differences(missing))) == {}


def test_several_videos_of_the_same_real_one_count_once():
    rows = pairs("ab", 3, psnr=lambda place, number: 20.0 + place) * 4
    (found,) = differences(rows)
    assert (found.estimate.count, found.better) == (3, None)


def test_the_difference_of_two_estimates_is_that_of_the_same_speakers():
    hard = np.random.default_rng(0).normal(0, 5, 12)
    for statistic in (mean, median):
        one, other = statistic(hard + 1, range(12)), statistic(hard, range(12))
        found = one.minus(other)
        assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
        assert found.sign == 1
        assert other.minus(one).sign == -1
        assert one.minus(statistic(hard, range(1, 13))) is None  # other speakers
        assert one.minus(statistic(hard, range(12), seed=1)) is None
    assert one.minus(Estimate(0.0, -1.0, 1.0, 12, 12)) is None
    assert "resampled" not in one.as_row()


def test_the_worst_pairs_come_first_and_those_shown_as_pictures_are_of_different_metrics():
    rows = pairs(
        "ab", 10, psnr=lambda place, number: 20.0 + 10 * place + number, lmd=lambda place, number: 1.0 * number
    )
    rows[0] |= {"status": "failed"}
    found = worst_pairs(rows)
    assert [(one.metric.column, one.row["row"]) for one in found] == [
        *(("psnr", 2), ("psnr", 3), ("psnr", 4)),
        *(("lmd", 10), ("lmd", 20), ("lmd", 9)),
    ]
    assert len(found) == 2 * EACH
    assert [row["row"] for row in to_picture(found)] == [2, 10, 3, 20, 4, 9][:PICTURED]
    assert worst_pairs(pairs("a", 5, psnr=lambda place, number: 20.0)) == []


def test_sources_name_the_folders_and_the_run_and_model_of_an_output_of_ours(tmp_path):
    summary = {"run": "r7", "state": "finished", "reason": "", "exit_code": 0, "errors": {}}
    summary |= dict.fromkeys(("planned", "done", "failed", "rejected", "quarantined", "rendered", "retakes"), 1)
    summary |= {"updated": 1.0, "seconds": 1.0, "video_seconds": 1.0, "render_idle_share": None}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    clip = {"clip_id": "a", "row": 1, "status": "done", "model": "pocket"}
    write_table(RowSpool([clip]), str(tmp_path), name="clips.parquet")
    rows = pairs("a", 2)
    for row in rows:
        row["generated"] = f"{tmp_path}/videos/{row['row']}.mp4"
    rows += pairs("b", 5)
    for row in rows[2:]:
        row["generated"] = f"/elsewhere/{row['row']}/a.mp4"
    real, ours, theirs = sources_of(rows, "real")
    assert (real.system, real.pairs, real.videos, real.folders, real.run) == ("real", 7, 5, "/real", "")
    assert (ours.folders, ours.run) == (f"{tmp_path}/videos", "run r7, model pocket")
    assert theirs.folders == "/elsewhere/1, /elsewhere/2, /elsewhere/3 and 2 more"
    (tmp_path / "clips.parquet").write_bytes(b"damaged")
    assert sources_of(rows, "real")[1].run == ""
