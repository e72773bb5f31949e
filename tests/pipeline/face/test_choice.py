"""Which face is meant, on boxes alone; the same on pictures is in `tests/pipeline/render/test_portrait.py`."""

import numpy as np
import pytest

from pipeline.common.errors import ClipError
from pipeline.face.choice import LISTED, FaceChoice, choose, listed, numbered, parse_choice

BOXES = [(300.0, 100.0, 400.0, 200.0), (100.0, 100.0, 190.0, 190.0), (500.0, 150.0, 540.0, 190.0)]
"""The largest first; from the left these are 1, 0, 2."""


def test_numbers_go_from_left_to_right_and_then_downwards():
    assert numbered(BOXES) == [1, 0, 2]
    assert numbered([(0.0, 90.0, 10.0, 100.0), (0.0, 10.0, 10.0, 20.0)]) == [1, 0]
    assert listed(BOXES) == "1 at 145,145; 2 at 350,150; 3 at 520,170"
    assert listed(BOXES, [0, 2]) == "2 at 350,150; 3 at 520,170"
    assert listed([(float(x), 0.0, x + 9.0, 9.0) for x in range(LISTED + 3)]).endswith("; and 3 more")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        *(("largest", 0), (1, 1), (2, 0), (3, 2)),
        *(("145,145", 1), ("191,145", 1), ("209,145", 1), ("560,170", 2), ("530,10,531,11", None), ("520,211", None)),
        *(("480,130,560,210", 2), ("310,110,390,190", 0), ("250,50,600,300", 0), ("0,0,600,300", None)),
        *(("4", None), ("only", None)),
    ],
)
def test_the_face_that_is_meant(value, place):
    if place is None:
        with pytest.raises(ClipError):
            choose(parse_choice(value), BOXES)
    else:
        assert choose(parse_choice(value), BOXES) == place


def test_a_point_between_two_faces_is_the_nearer_ones():
    pair = [(0.0, 0.0, 100.0, 100.0), (110.0, 0.0, 210.0, 100.0)]
    assert [choose(parse_choice(f"{x},50"), pair) for x in (104, 106)] == [0, 1]


def test_a_choice_is_the_same_however_it_is_written():
    written = ["640,360", "640 , 360", [640, 360.0], (640, 360), np.array([640, 360]), "[640; 360]"]
    assert {parse_choice(value) for value in written} == {FaceChoice("point", (640.0, 360.0))}
    assert {str(parse_choice(value)) for value in written} == {"640,360"}
    for value in ("largest", "only", "7", "640.25,0", "1,2,3,4.5"):
        assert str(parse_choice(str(parse_choice(value)))) == value


@pytest.mark.parametrize(
    "value", ["", "nan", "inf,1", "1,2,3", [None, 1], {"x": 1}, False, "2nd", 1e9, "1e300,1", b"2", 10**400]
)
def test_anything_else_is_refused(value):
    with pytest.raises(ValueError, match=r".+: write "):
        parse_choice(value)
