"""What follows from figures that are known in advance: ratios, shares, the limit, and the table."""

import pytest

from jobs.bench.job import Outcome, Results
from jobs.bench.table import limit, markdown, shares, stages


def results(**engine):
    """A run on two cores at 10 frames/s of decoding, or other rates."""
    rates = {"sampling": 100.0, "decode": 10.0} | engine
    work = {"decode_gflop_a_frame": 4.0, "decode_gigabytes_a_frame_unfused": 0.5}
    sections = {
        "machine": Outcome("done", {"cores": 2, "cpu": "a CPU", "torch": "2"}),
        "ceilings": Outcome("done", {"bfloat16_gflops": 80.0, "copy_gb_per_second": 20.0}),
        "baseline": Outcome("failed", {"baseline": {"decode": 1.0}}, "it was ended after 150 s"),
        "encode": Outcome("done", {"engine": {"encode": 100.0}, "disk_mb_per_second": 500.0}),
        "rendering": Outcome(
            "done",
            work | {"engine": rates, "psnr": {"decode": 52.34}, "precisions": {"decode": "bfloat16"}, "name": "fast"},
        ),
        # The default settings encode in float32, whatever is fastest.
        "features": Outcome("done", {"engine": {"features": 400.0}, "float32_rate": 4.0, "load_seconds_a_clip": 0.25}),
        "quality": Outcome("skipped", reason="0 s are left, and it needs 5 s"),
    }
    return Results({"model": "full", "nfe": 9, "date": "today"}, sections)


def test_ratios_need_both_rates_and_stand_beside_the_psnr():
    found = stages(results())
    assert found["decode"] == {"unit": "frames/s", "baseline": 1.0, "engine": 10.0, "ratio": 10.0, "psnr": 52.34}
    assert found["sampling"]["ratio"] is None
    assert "portrait" not in found


def test_shares_are_those_of_the_type_that_the_engine_computes_in():
    share = shares(results())["decode"]
    assert (share["type"], share["gflops"], share["share"]) == ("bfloat16", 40.0, 0.5)
    assert share["copy_share_unfused"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("rates", "on_gpu", "expected"),
    [
        ({}, False, "sampling and decoding the frames limits the speed"),
        ({"decode": 1000.0, "sampling": 1000.0}, False, "encoding the speech limits the speed"),
        ({"decode": 1000.0, "sampling": 1000.0}, True, "encoding the speech limits the speed"),
        ({"decode": 20.0}, True, "(the GPU can deliver 16.7 frames/s with all steps: decode 83%, sampling 17%)"),
    ],
)
def test_the_limit_is_the_largest_step_of_the_busiest_resource(rates, on_gpu, expected):
    assert expected in limit(results(**rates), on_gpu)


def test_a_disk_that_is_slower_than_everything_limits():
    slow = results()
    slow.sections["encode"].figures["disk_mb_per_second"] = 0.1
    assert limit(slow, False).startswith("delivering the videos limits the speed")


def test_without_an_engine_there_is_no_limit():
    assert "not known" in limit(Results(), False)


def test_the_table_has_what_was_measured_and_names_what_was_not():
    table = markdown(results(), False)
    assert "| decode | 1 frames/s | 10 frames/s | 10.0 | 52.3 dB |" in table
    assert "| sampling | not measured | 100 frames/s |  |  |" in table
    assert "Section baseline failed: it was ended after 150 s." in table
    assert "Section quality was skipped: 0 s are left, and it needs 5 s." in table
    assert "Load seconds a clip: 0.250." in table
