"""The column emotion as a list of spans: the same in every format, and what cannot be is refused with its number."""

import json
import math
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.common.errors import ClipError
from pipeline.ledger.clip_row import clip_row, emotion_text
from pipeline.manifest.emotion_spans import EmotionSpan, emotions_of, text_in_words
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.settings import ClipDefaults
from pipeline.manifest.spans import check_length
from pipeline.qc.retakes import take_clip
from tests.tiny import CONFIG

SPANS = [
    {"start": 0.0, "end": 2.4, "emotion": "happy", "strength": 1.5},
    {"start": 2.4, "end": 3, "emotion": {"angry": 3, "sad": 1}},
]
READ = (EmotionSpan(0.0, 2.4, {"happy": 1.0}, 1.5), EmotionSpan(2.4, 3.0, {"angry": 0.75, "sad": 0.25}))


def read(tmp_path, emotion, model=None, **more):
    row = {"image": "a.png", "audio": "a.wav", "clip_id": "a", "emotion": emotion, **more}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    return read_manifest(str(tmp_path / "m.jsonl"), None, model)


def test_spans_are_the_same_from_every_format(tmp_path):
    clip = read(tmp_path, SPANS).clips[0]
    assert (clip.spans, clip.emotion, clip.emotion_fade) == (READ, None, 0.3)
    as_text = json.dumps(SPANS).replace('"', '""')
    (tmp_path / "m.csv").write_text(f'image,audio,emotion,emotion_fade\na.png,a.wav,"{as_text}",0.5\n')
    written = read_manifest(str(tmp_path / "m.csv")).clips[0]
    assert (written.spans, written.emotion_fade) == (READ, 0.5)
    # A struct column has the weights as a struct with null where one is not used.
    weights = [{"happy": 1.0, "angry": None, "sad": None}, {"happy": None, "angry": 3.0, "sad": 1.0}]
    column = [[span | {"emotion": one} for span, one in zip(SPANS, weights, strict=True)]]
    table = pa.table({"image": ["a.png"], "audio": ["a.wav"], "emotion": column})
    pq.write_table(table, tmp_path / "m.parquet")
    assert read_manifest(str(tmp_path / "m.parquet")).clips[0].spans == READ


def test_an_entry_without_times_is_the_emotion_elsewhere(tmp_path):
    clip = read(tmp_path, [{"emotion": "sad"}, SPANS[0]]).clips[0]
    assert (clip.emotion, clip.spans) == ({"sad": 1.0}, READ[:1])
    assert read(tmp_path, [{"emotion": "sad"}]).clips[0].spans == ()


def test_the_row_has_the_spans_as_a_manifest_can_have_them_and_a_person_reads_words(tmp_path):
    clip = read(tmp_path, [*SPANS, {"emotion": "sad"}]).clips[0]
    row = clip_row(clip)
    assert (row["emotion_source"], row["emotion_fade"]) == ("manifest", 0.3)
    assert emotions_of(row["emotion"], 1.0) == ({"sad": 1.0}, READ)
    words = "happy from 0 to 2.4 s at 1.5 times the strength; 75% angry and 25% sad from 2.4 to 3 s; elsewhere sad"
    assert text_in_words(row["emotion"]) == words
    predicted = emotion_text(replace(clip, emotion=None), {"fear": 0.25, "neutral": 0.75})
    assert text_in_words(predicted).endswith("; elsewhere 75% neutral and 25% fear")
    plain = read(tmp_path, "happy").clips[0]
    assert (clip_row(plain)["emotion"], clip_row(plain)["emotion_fade"]) == ('{"happy": 1.0}', None)
    assert [text_in_words(text) for text in (None, '{"happy": 1.0}', "[broken")] == [None, '{"happy": 1.0}', "[broken"]


def test_another_take_has_the_same_spans(tmp_path):
    clip = read(tmp_path, SPANS, emotion_fade=0.1).clips[0]
    again = take_clip(clip, 2)
    assert (again.spans, again.emotion_fade) == (clip.spans, 0.1)
    assert again.seed != clip.seed


def spans(*times, **more):
    return [{"start": start, "end": end, "emotion": "happy", **more} for start, end in times]


@pytest.mark.parametrize(
    ("emotion", "message"),
    [
        (spans((0, 1), (0.5, 2)), "span 2: it starts at 0.5 s, before span 1 ends (1 s): spans must follow"),
        (spans((3, 4), (0, 1)), "span 2: it starts at 0 s, before span 1 ends (4 s)"),
        (spans((0, 1), (2, 2)), "span 2: it lasts from 2 to 2 s, but a span must last at least one frame, 0.04 s"),
        (spans((2, 1)), "span 1: it lasts from 2 to 1 s"),
        (spans((0, 0.03)), "at least one frame"),
        (spans((-1, 1)), "span 1: start -1 is not a number of seconds, 0 or more"),
        (spans((math.nan, 1)), "span 1: start is missing"),
        (spans((0, math.inf)), "span 1: end inf is not a number of seconds"),
        (spans((0, 10**400)), "is not a number of seconds"),
        (spans((0, "soon")), "span 1: end 'soon' is not a number of seconds"),
        (spans((True, 1)), "span 1: start True is not a number"),
        ([{"start": 0, "emotion": "happy"}], "span 1: end is missing: give the seconds of the clip"),
        ([{"start": 0, "end": 1}], "span 1: it has no emotion: give one of angry"),
        ([{"start": 0, "end": 1, "emotion": "glad"}], "span 1: 'glad' is not one of angry"),
        ([{"start": 0, "end": 1, "emotion": {"happy": 0}}], "span 1: the weights are all 0"),
        ([{"start": 0, "end": 1, "emotion": "{broken"}], "span 1: '{broken' is not JSON"),
        ([{"start": 0, "end": 1, "emotion": "happy", "power": 2}], "span 1: 'power' is not one of start, end, emotion"),
        ([*spans((0, 1)), "happy"], "span 2: it is a text and not an object with start, end, emotion, strength"),
        (spans((0, 1), strength=-1), "span 1: strength -1 is not a number from 0 to 20"),
        (spans((0, 1), strength="much"), "span 1: strength 'much' is not a number"),
        (
            spans((0, 1), strength=15),
            "span 1: strength 15 times e_cfg_scale 2 is 30, but the guidance may be at most 20",
        ),
        ([{"emotion": "sad"}, {"emotion": "happy"}], "span 2: a second entry has neither start nor end"),
        ([{"emotion": "sad", "strength": 2}], "span 1: start and end are missing; outside of the spans e_cfg_scale"),
        (spans(*((i, i + 1) for i in range(1001))), "1001 spans are more than the 1000"),
    ],
)
def test_spans_that_cannot_be_are_refused_at_planning(tmp_path, emotion, message):
    refused = read(tmp_path, emotion, e_cfg_scale=2)
    assert not refused.clips
    error = refused.rejected[0].error
    assert error.code == "value_invalid"
    assert error.message.startswith("row 1 (line 1), column emotion: ")
    assert message in error.message


def test_a_model_without_emotion_condition_takes_no_spans(tmp_path):
    refused = read(tmp_path, SPANS, replace(CONFIG, emotion="none"))
    assert "this model has no emotion condition" in refused.rejected[0].error.message


def test_a_fade_is_a_number_of_seconds(tmp_path):
    assert "column emotion_fade: -1 is not a number from 0 to 10" in (
        read(tmp_path, SPANS, emotion_fade=-1).rejected[0].error.message
    )
    (tmp_path / "m.jsonl").write_text('{"image": "a.png", "audio": "a.wav"}')
    assert read_manifest(str(tmp_path / "m.jsonl"), ClipDefaults(emotion_fade=0.1)).clips[0].emotion_fade == 0.1


def test_a_span_may_end_within_a_frame_after_the_audio_and_no_later():
    check_length(READ, 2.97, 75)
    with pytest.raises(
        ClipError, match=r"span 2 of the column emotion lasts from 2\.4 to 3 s, but the audio ends"
    ) as late:
        check_length([replace(span, number=n) for n, span in enumerate(READ, 1)], 2.9, 73)
    assert late.value.code == "emotion_span_too_late"
    with pytest.raises(ClipError, match="span 1 "):  # no frame would be left for it
        check_length([EmotionSpan(2.99, 3.03, {"happy": 1.0}, number=1)], 3.0, 75)
