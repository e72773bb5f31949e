"""Whether the emotion of a span is seen: a photograph whose brows and mouth change as the row says, and other ones."""

from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from av import VideoFrame

from models import EMOTIONS
from pipeline.face.detector import FaceDetector
from pipeline.manifest.emotion_spans import EmotionSpan
from pipeline.measure.emotion_span import EmotionSpans, places_of, span_shares
from pipeline.measure.expression import FEATURES, Expressions, expression, known_expressions
from pipeline.measure.face_track import FaceTrack
from pipeline.measure.video_pass import Delivery, Feelings, Frame
from pipeline.qc.faces import feelings_of
from pipeline.qc.verdict import judge
from tests.synthetic_videos import planes_of, portrait

FPS = 25
MOVES = {
    "happy": {61: (-0.10, -0.06), 291: (0.10, -0.06), 145: (0, -0.03), 374: (0, -0.03)},
    "angry": dict.fromkeys((55, 285, 107, 336, 46, 276, 105, 334), (0, 0.10)),
    "neutral": {},
}
"""How far landmarks of the photograph move, right and down, in distances between the outer corners of the eyes."""


@cache
def face(emotion):
    """The demo's photograph, warped around some landmarks, as a frame of a video."""
    picture, points = portrait(), FaceDetector().detect(portrait())[0].landmarks
    unit = np.linalg.norm(points[33] - points[263])
    y, x = np.mgrid[: len(picture), : len(picture)].astype(float)
    shift = np.zeros((2, *x.shape))
    for place, (right, down) in MOVES[emotion].items():
        near = np.exp(-((x - points[place, 0]) ** 2 + (y - points[place, 1]) ** 2) / (2 * (0.16 * unit) ** 2))
        shift += np.array([right, down])[:, None, None] * unit * near
    rows, columns = (values.round().clip(0, len(picture) - 1).astype(int) for values in (y - shift[1], x - shift[0]))
    return VideoFrame.from_ndarray(planes_of(picture[rows, columns]), format="yuv420p")


def measured(shown, *spans, elsewhere="neutral", seconds=4.0):
    """The check after a film that shows an emotion from second to second, {0: "happy", 2: ...}."""
    feelings = Feelings(tuple(EmotionSpan(*span) for span in spans), 0.1, {elsewhere: 1.0}) if spans else None
    delivery = Delivery(Path(), Fraction(FPS), round(seconds * FPS), 256, feelings=feelings)
    track = FaceTrack(delivery, FaceDetector())
    check = EmotionSpans(delivery, track)
    for number in range(0, round(seconds * FPS)):
        emotion = next(name for start, name in reversed(shown.items()) if number >= start * FPS)
        frame = Frame(number, face(emotion))
        track.frame(frame)
        check.frame(frame)
    return check


HAPPY, ANGRY = (0.8, 1.6, {"happy": 1.0}), (2.4, 3.2, {"angry": 1.0})
SHOWN = {0: "neutral", 0.8: "happy", 1.6: "neutral", 2.4: "angry", 3.2: "neutral"}


@pytest.mark.slow
def test_spans_that_show_their_emotion_pass_and_those_that_do_not_are_for_review():
    right = measured(SHOWN, HAPPY, ANGRY)
    assert [name for *_, name, _ in right.shares()] == ["happy", "angry"]
    assert right.metrics()["qc_emotion_span"] > 0.5
    assert judge(right.metrics()).status == "pass"
    still = measured({0: "neutral"}, HAPPY, ANGRY)
    assert abs(still.metrics()["qc_emotion_span"]) < 0.15
    assert judge(still.metrics()).reasons == ("emotion_span_low",)
    swapped = measured(SHOWN, (*HAPPY[:2], {"angry": 1.0}), (*ANGRY[:2], {"happy": 1.0}))
    assert judge(swapped.metrics()).reasons == ("emotion_span_low",)
    assert "raise its strength or e_cfg_scale" in judge(swapped.metrics()).messages[0]


def test_a_clip_without_spans_has_no_such_value():
    check = measured({0: "neutral"}, seconds=0.2)
    assert (check.shares(), check.metrics()) == ([], {"qc_emotion_span": None})
    assert feelings_of({"emotion": '{"happy": 1.0}', "emotion_fade": None}) is None
    feelings = feelings_of(
        {"emotion": '[{"start": 1, "end": 2, "emotion": "sad"}, {"emotion": "fear"}]', "emotion_fade": 0.2}
    )
    assert feelings == ((EmotionSpan(1.0, 2.0, {"sad": 1.0}),), 0.2, {"fear": 1.0})


# --- Without pictures ------------------------------------------------------------------------------------------


def film(*shown, noise=0.0):
    """Features of frames: seconds and the emotion that the generated corpus would show in them."""
    change = known_expressions().change
    rows = [change[EMOTIONS.index(name)] for seconds, name in shown for _ in range(round(seconds * FPS))]
    return np.stack(rows) + noise * np.random.default_rng(0).standard_normal((len(rows), len(FEATURES)))


def spans(*given, fade=0.2, elsewhere="neutral"):
    return Feelings(tuple(EmotionSpan(*span) for span in given), fade, {elsewhere: 1.0})


def values(features, feelings):
    return [share for *_, share in span_shares(features, feelings, FPS)]


def test_a_span_is_compared_with_what_its_neighbours_should_show():
    features = film((1, "neutral"), (1, "happy"), (1, "angry"), (1, "neutral"))
    both = spans((1, 2, {"happy": 1.0}), (2, 3, {"angry": 1.0}))
    assert values(features, both) == pytest.approx([1, 1])
    half = film((1, "neutral"), (1, "happy"), (1, "neutral"), (1, "neutral"))
    assert values(half, both)[0] == pytest.approx(1, abs=0.35)
    assert values(half, both)[1] < 0.3
    # A span without emotion among others is one that the others' is not seen in.
    rest = spans((1, 2, {"neutral": 1.0}), elsewhere="happy")
    assert values(film((1, "happy"), (1, "neutral"), (1, "happy")), rest) == pytest.approx([1])
    assert values(film((3, "happy")), rest) == pytest.approx([0])


@pytest.mark.parametrize(
    ("features", "feelings"),
    [
        (film((2, "happy")), spans((0, 2, {"happy": 1.0}))),  # it has no neighbours
        (film((2, "neutral"), (0.4, "happy"), (2, "neutral")), spans((2, 2.4, {"happy": 1.0}))),  # only fades
        (film((1, "neutral"), (1, "fear"), (1, "neutral")), spans((1, 2, {"fear": 1.0}))),  # too little to see
        (film((3, "happy")), spans((1, 2, {"happy": 1.0}), elsewhere="happy")),  # nothing should change
        (film((1, "neutral"), (1, "happy"), (1, "neutral")), spans((1, 2, {"happy": 1.0}, 0.0))),  # no strength
        (np.full((75, len(FEATURES)), np.nan), spans((1, 2, {"happy": 1.0}))),  # no face
    ],
)
def test_what_cannot_be_told_is_not_measured(features, feelings):
    assert values(features, feelings) == [None]


def test_frames_in_a_fade_belong_to_nobody_and_the_ends_of_the_clip_have_none():
    places = places_of(spans((0, 1, {"happy": 1.0}), (1, 2, {"sad": 1.0}), fade=0.2), 75, FPS)
    assert places[0] == 0
    assert set(places[20:30]) == {-2}
    assert set(places[30:45]) == {1}
    assert set(places[55:]) == {-1}


def test_an_expression_does_not_depend_on_the_place_the_size_or_the_turn_of_the_head():
    landmarks = FaceDetector().detect(portrait())[0].landmarks
    known = expression(landmarks)
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    np.testing.assert_allclose(expression(1.7 * landmarks @ turn.T + (30, -10, 5)), known, atol=1e-3)


def test_the_table_of_expressions_is_what_the_code_writes():
    known = known_expressions()
    assert known.change.shape == (len(EMOTIONS), len(FEATURES))
    assert not known.change[EMOTIONS.index("neutral")].any()
    np.linalg.cholesky(known.covariance)
    direction, clear = known.towards({"happy": 1.0}, {"sad": 1.0})
    assert clear > 3
    assert direction[FEATURES.index("corners")] > 0
    assert isinstance(known, Expressions)
    assert '"happy"' in known.as_json({"made": "by a test"})
