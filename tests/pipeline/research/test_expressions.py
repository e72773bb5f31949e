"""The table of expressions, and what its job says of spans."""

import numpy as np
import pytest

from models import EMOTIONS
from pipeline.common.options import SettingError
from pipeline.face.detector import FaceDetector
from pipeline.measure.expression import FEATURES
from pipeline.research.expressions import (
    NEUTRAL,
    ExpressionSettings,
    SpanSeen,
    compare,
    compared_table,
    draw_expressions,
    fit_expressions,
    nearest,
    seen_table,
)

CHANGE = 4 * np.eye(len(EMOTIONS), len(FEATURES))
CHANGE[NEUTRAL] = 0


def people(number=9, shown=1.0):
    """Features (people,1,7,frames,8): faces of their own, in which an emotion moves one feature by four deviations."""
    draw = np.random.default_rng(0)
    own = 10 * draw.standard_normal((number, 1, 1, 1, len(FEATURES)))
    return own + shown * CHANGE[:, None] + draw.standard_normal((number, 1, len(EMOTIONS), 40, len(FEATURES)))


def test_known_changes_are_found_and_each_persons_own_face_does_not_count():
    known = fit_expressions(people().reshape(-1, len(EMOTIONS), 40, len(FEATURES)))
    np.testing.assert_allclose(known.change, CHANGE, atol=0.3)
    np.testing.assert_allclose(known.covariance, np.eye(len(FEATURES)), atol=0.1)
    assert [nearest(known, row) for row in CHANGE] == list(range(len(EMOTIONS)))


def test_faces_that_show_their_emotion_are_told_from_those_that_do_not():
    found, recognised = compare(people())
    assert len(found.right) == 9 * len(EMOTIONS) * (len(EMOTIONS) - 1)
    assert (found.alarms(0.5).value, found.misses(0.5).value, recognised) == (0, 0, 1)
    assert "378 comparisons of 9 people; nearest finds 1.00" in compared_table(found, recognised, [0.5])


def test_what_is_seen_is_counted_by_clips():
    seen = [SpanSeen(clip, 0, int(clip == 3), 1.0 - clip / 4, NEUTRAL) for clip in range(4)]
    table = seen_table(seen, 0.3)
    assert "spans whose emotion is seen: 0.750 [" in table
    assert "of 4 in 4 clips; chance 0.143" in table
    assert "the same without spans: 0.000 " in table
    assert "below 0.3: 0.250 [" in table
    assert "angry: 3 of 4 (angry, angry, angry, disgust)" in table


def test_settings_are_checked():
    with pytest.raises(SettingError, match="sizes"):
        ExpressionSettings(sizes=[16])


@pytest.mark.slow
def test_a_generated_smile_is_measured_as_one(opengl):
    settings = ExpressionSettings(people=3, frames=4, sizes=[64])
    found = draw_expressions(6000, settings, FaceDetector())
    assert found.shape == (1, len(EMOTIONS), 4, len(FEATURES))
    happy = np.nanmean(found[0, EMOTIONS.index("happy")] - found[0, NEUTRAL], axis=0)
    assert happy[FEATURES.index("corners")] > 0.005
    assert happy[FEATURES.index("width")] > 0.02
