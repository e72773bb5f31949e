"""The table of the limits of dlib's face distance."""

import numpy as np
import pytest

from pipeline.common.options import SettingError
from pipeline.research.face_distance import Distances, FaceDistanceSettings, compare, draw_person, table, wilson


def test_an_interval_is_wilsons():
    # Newcombe 1998, table I: 81 of 263 and 0 of 20
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)


def test_an_alarm_is_a_film_and_a_miss_a_picture():
    found = Distances("film", same=[[0.1, 0.5], [0.2, 0.3]], other=[[0.35, 0.9], [0.8, 0.9]])
    lines = table([found], [0.4]).splitlines()
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert cells[0] == "film"
    assert cells[3:] == ["0.4", "50.0 % (9.5 to 90.5)", "25.0 % (2.7 to 80.2)"]


def test_settings_are_checked():
    with pytest.raises(SettingError, match="sizes"):
        FaceDistanceSettings(sizes=[16])


@pytest.mark.slow
def test_generated_people_are_nearer_to_themselves_than_to_others(opengl):
    people = [draw_person(seed, 2) for seed in (3000, 3001)]
    found = {one.name: one for one in compare(people, FaceDistanceSettings(people=2, frames=2, sizes=[512, 64]))}
    assert set(found) == {"film 512", "film 64", "light 512"}
    for one in found.values():
        assert one.missed == 0
        assert np.concatenate(one.same).max() < np.concatenate(one.other).min()
