"""How large the step between two clips of a programme is, beside the steps inside one clip: in motion, with the bundled
model, which was trained, and so goes on from the frames before.
"""

import numpy as np
import pytest
import torch

from tests import media
from tests.pipeline.render.programme_seams import WINDOW, Studio, compared, figures

CUTS = (37, 110, 163, 200)
"""Frames with which clips begin: none is the border of a window, which one clip has at 50, 100 ..."""
FRAMES = 290


@pytest.mark.slow
def test_the_step_at_a_join_is_like_one_inside_a_clip_and_larger_where_a_clip_begins_anew():
    studio = Studio()
    speech = np.tile(studio.model.speech_features(media.SPEECH).content, (4, 1))[:FRAMES]
    film = studio.film(speech, CUTS, 5, torch.zeros(speech.shape[1]))

    def steps(motion, places):
        return [float(np.linalg.norm(motion[place] - motion[place - 1])) for place in places]

    borders = steps(film.whole, range(WINDOW, FRAMES, WINDOW))
    joins, anew = steps(film.programme, CUTS), steps(film.anew, CUTS)
    assert np.mean(joins) < 1.05 * np.mean(borders), (joins, borders, anew)
    assert max(joins) < max(borders) < np.mean(anew), (joins, borders, anew)


def test_samples_of_one_distribution_are_told_from_those_of_two():
    random = np.random.default_rng(1)
    alike = [(random.normal(3, 1, 5), random.normal(3, 1, 6)) for _ in range(20)]
    found = compared(alike, draws=300)
    assert found["low"] < 0 < found["high"]
    assert min(found["p"], found["p_distance"]) > 0.05
    other = compared([(one, two + 1) for one, two in alike], draws=300)
    assert 0.5 < other["low"] < other["difference"] < other["high"]
    assert max(other["p"], other["p_distance"]) < 0.01


def test_a_jump_has_a_high_figure_and_ordinary_motion_a_low_one():
    changes = np.random.default_rng(2).uniform(1, 2, 100)
    changes[29] = 9
    assert figures(changes, [30, 60])[0] > 4 > figures(changes, [30, 60])[1]
