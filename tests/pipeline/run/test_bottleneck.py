"""What limits a run, for times whose answer is known."""

import pytest

from pipeline.run.bottleneck import ADVICE, limited_by

EVEN = {"features": 1, "render": 1, "qc": 1}
RENDER = {"sample_seconds": 20.0, "decode_seconds": 70.0, "portrait_seconds": 1.0}


@pytest.mark.parametrize(
    ("seconds", "workers", "name"),
    [
        (RENDER | {"load_seconds": 40.0, "speech_seconds": 40.0}, EVEN, "render"),
        (RENDER | {"load_seconds": 40.0, "speech_seconds": 80.0}, EVEN, "features"),
        (RENDER | {"load_seconds": 80.0, "speech_seconds": 40.0}, EVEN, "inputs"),
        (RENDER | {"load_seconds": 80.0, "speech_seconds": 40.0}, EVEN | {"features": 4}, "render"),
        (RENDER | {"load_seconds": 30.0}, EVEN | {"render": 8}, "inputs"),
        (RENDER | {"encoder_wait_seconds": 9.0}, EVEN, "render"),
        (RENDER | {"encoder_wait_seconds": 30.0}, EVEN, "encoder"),
        (RENDER | {"encoder_wait_seconds": 12.0, "delivery_wait_seconds": 30.0}, EVEN, "delivery"),
        (RENDER | {"qc_seconds": 200.0}, EVEN, "quality_control"),
        (RENDER | {"qc_seconds": 200.0}, EVEN | {"qc": 0}, "render"),
    ],
)
def test_the_busiest_workers_and_what_they_do_most_are_the_limit(seconds, workers, name):
    found = limited_by(seconds, workers)
    assert found.name == name
    assert found.describe().startswith(ADVICE[name])


def test_an_encoder_that_is_waited_for_half_of_the_time_has_to_be_twice_as_fast():
    found = limited_by({"decode_seconds": 10.0, "encoder_wait_seconds": 10.0}, EVEN)
    assert (found.share, found.speed) == (0.5, 2.0)
    assert found.describe().endswith("(50% of the working time of these workers; 2.0 times its speed would be enough)")


@pytest.mark.parametrize("workers", [EVEN, {}])
def test_without_a_measurement_nothing_is_said(workers):
    assert limited_by({"frames": 0}, workers) is None
