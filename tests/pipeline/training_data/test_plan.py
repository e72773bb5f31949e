"""Which videos there are, who speaks in them, who is held out, and what is to be done."""

import json
from collections import Counter
from itertools import islice

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.common.errors import ManifestError
from pipeline.common.limits import Limits
from pipeline.common.options import SettingError
from pipeline.manifest.noticed import Notices
from pipeline.storage.uris import join
from pipeline.training_data.places import Places
from pipeline.training_data.plan import make_plan
from pipeline.training_data.settings import ClipSettings, SplitSettings
from pipeline.training_data.splits import assign, speaker_splits, split_of
from pipeline.training_data.videos import read_source

# --- Source ----------------------------------------------------------------------------------------------------


def put(folder, name, data=b"film"):
    with fsspec.open(join(folder, name), "wb", auto_mkdir=True) as file:
        file.write(data)


def test_a_folder_gives_its_videos_and_the_names_of_their_folders_as_speakers(output):
    for name in ("anna/one.mp4", "anna/day 2/two.MOV", "ben/one.mp4", "cleo.webm", "anna/notes.txt", "ben/.part.mp4"):
        put(output, name)
    videos = read_source(output)
    speakers = {video.uri.removeprefix(f"{output}/"): video.speaker for video in videos}
    assert speakers == {
        "anna/one.mp4": "anna",
        "anna/day 2/two.MOV": "day 2",
        "ben/one.mp4": "ben",
        "cleo.webm": "cleo",
    }
    assert len({video.key for video in videos}) == 4  # two are called one.mp4
    assert all(video.size == 4 for video in videos)


def test_a_table_says_who_speaks_and_what_is_felt(tmp_path):
    rows = [
        {"video": "a/one.mp4", "speaker": "Anna", "language": "en", "emotion": "happy"},
        {"video": "s3://bucket/two.mp4", "speaker": 7.0, "language": None, "emotion": None},
        {"video": "ben/three.mp4", "speaker": None, "language": "de", "emotion": ""},
        {"video": "four.mp4", "speaker": None, "language": None, "emotion": None},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = [",".join(str(value if value is not None else "") for value in row.values()) for row in rows]
    (tmp_path / "t.csv").write_text("\n".join(["video,speaker,language,emotion", *lines]).replace("7.0", "7"))
    rows[1]["speaker"] = "7"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    read = [read_source(str(tmp_path / f"t.{suffix}")) for suffix in ("jsonl", "csv", "parquet")]
    assert read[0] == read[1] == read[2]
    one, two, three, four = read[0]
    assert (one.uri, one.speaker, one.language, one.emotion) == (str(tmp_path / "a/one.mp4"), "Anna", "en", "happy")
    assert (two.uri, two.speaker) == ("s3://bucket/two.mp4", "7")
    assert (three.speaker, three.language, three.emotion) == ("ben", "de", None)
    assert four.speaker == "four"


def test_a_table_is_read_as_spreadsheets_save_it(tmp_path):
    (tmp_path / "t.csv").write_text("Video; speaker\n a.mp4;Anna\n;\n", encoding="utf-16")
    notices = Notices()
    (video,) = read_source(str(tmp_path / "t.csv"), notices)
    assert (video.uri, video.speaker) == (str(tmp_path / "a.mp4"), "Anna")
    assert len(notices.sentences()) == 6  # encoding, separator, two names, spaces, the empty row


def test_a_table_and_its_folder_give_a_video_the_same_name_wherever_they_are(tmp_path):
    for place in ("here", "there"):
        put(str(tmp_path / place), "anna/one.mp4")
        (tmp_path / place / "t.csv").write_text("video\nanna/one.mp4\n")
    sources = ("here", "there", "here/t.csv", "there/t.csv")
    assert len({read_source(str(tmp_path / source))[0].key for source in sources}) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "video,emotion\na.mp4,happy\nb.mp4,joyful\n",
            r"row 2 \(line 3\), column emotion: 'joyful' is not",
        ),
        ("video\na.mp4\n\na.mp4\n", r"'a.mp4' is already in row 1 \(line 2\)"),
        ("film\na.mp4\n", r"row 1 \(line 2\), column video: a value is required; the table has film"),
        ("video\ns3://key:secret@bucket/a.mp4\n", r"row 1 \(line 2\), column video: .* contains credentials"),
        ("video\n", "contains no videos"),
        ("video,speakr\na.mp4,Anna\n", "column 'speakr' looks like speaker"),
        ("video,speaker\na.mp4,Anna, Ben\n", r"row 1 \(line 2\): it has 3 values for 2 columns"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_the_row(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ManifestError, match=message) as error:
        read_source(str(tmp_path / "t.csv"))
    assert "secret" not in str(error.value)


def test_a_source_that_is_missing_or_empty_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="does not exist"):
        read_source(str(tmp_path / "nowhere"))
    with pytest.raises(ManifestError, match="contains no videos"):
        read_source(str(tmp_path))
    with pytest.raises(ManifestError, match="does not exist"):
        read_source(str(tmp_path / "none.csv"))


# --- Splits ----------------------------------------------------------------------------------------------------


def test_splits_have_their_shares_and_depend_on_name_and_seed_alone():
    settings = SplitSettings(validation=0.1, test=0.2)
    names = [f"speaker {n}" for n in range(4000)]
    found = assign(names, settings, {})
    shares = {split: count / 4000 for split, count in Counter(found.values()).items()}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.03)
    assert found == {name: split_of(name, settings) for name in names}
    assert assign(reversed(names), settings, {}) == found
    other = assign(names, SplitSettings(validation=0.1, test=0.2, seed=1), {})
    assert sum(other[name] != found[name] for name in names) > 1000


def test_somebody_always_trains_and_nobody_moves_when_others_come(tmp_path):
    settings = SplitSettings(validation=0.45, test=0.5)
    places = Places(str(tmp_path))
    names = (f"speaker {n}" for n in range(1000, 2000))
    speakers = list(islice((name for name in names if split_of(name, settings) != "train"), 3))  # all held out
    first = speaker_splits(places, speakers, settings)
    assert list(first.values()).count("train") == 1
    more = [f"speaker {n}" for n in range(200)]
    assert "train" in {split_of(name, settings) for name in more}
    second = speaker_splits(places, [*more, *speakers], settings)
    assert {name: second[name] for name in speakers} == first
    assert speaker_splits(places, speakers[1:2], settings) == second
    assert speaker_splits(places, speakers, SplitSettings(validation=0, test=0)) == dict.fromkeys(speakers, "train")


def test_shares_that_leave_nobody_to_train_are_refused():
    with pytest.raises(SettingError, match="no speaker to train"):
        SplitSettings(validation=0.5, test=0.5)


# --- Plan ------------------------------------------------------------------------------------------------------


def plan(source, output, settings=None, limits=None, split=None, **options):
    places = Places(output)
    videos = read_source(source)
    splits = speaker_splits(places, [video.speaker for video in videos], split or SplitSettings(validation=0, test=0))
    return make_plan(videos, places, settings or ClipSettings(), limits or Limits(), splits, **options)


def finish(output, videos, **extra):
    for video in videos:
        about = {"key": video.key, "fingerprint": video.fingerprint, "rows": []}
        Places(output).write(video.key, about | extra)


def test_what_is_done_is_left_alone_and_what_changed_is_prepared_again(output, tmp_path):
    source = str(tmp_path / "videos")
    for name in ("anna/1.mp4", "anna/2.mp4", "ben/3.mp4"):
        put(source, name, name.encode())
    first = plan(source, output)
    assert (len(first.todo), first.changed) == (3, 0)
    finish(output, first.todo[:2])
    assert [video.key for video in plan(source, output).todo] == [first.videos[2].key]
    finish(output, first.todo)
    done = plan(source, output)
    assert (done.todo, done.describe()) == ([], "plan: 0 new, 0 changed, 3 done before; to prepare: 0.0 MB of video")
    for change in (
        {"settings": ClipSettings(max_yaw=30)},
        {"limits": Limits(max_audio_minutes=5)},
        {"syncnet": "hash of its weights"},
    ):
        changed = plan(source, output, **change)
        assert (len(changed.todo), changed.changed) == (3, 3)
    put(source, "ben/3.mp4", b"another film")
    put(source, "ben/4.mp4", b"a new one")
    changed = plan(source, output)
    assert (len(changed.todo), changed.changed) == (2, 1)


def test_a_speaker_who_is_held_out_has_its_videos_prepared_again_and_no_other(tmp_path):
    source, output = str(tmp_path / "videos"), str(tmp_path / "out")
    for n in range(12):
        put(source, f"speaker {n}/film.mp4")
    first = plan(source, output)
    assert {video.split for video in first.videos} == {"train"}
    finish(output, first.todo)
    second = plan(source, output, split=SplitSettings(validation=0.3, test=0))
    assert 0 < len(second.todo) < 12
    assert {video.split for video in second.todo} == {"validation"}


def test_a_video_whose_workers_died_is_tried_again_when_asked(tmp_path):
    source, output = str(tmp_path / "videos"), str(tmp_path / "out")
    put(source, "a.mp4")
    finish(output, plan(source, output).todo, error_code="worker_died")
    assert plan(source, output).todo == []
    assert len(plan(source, output, retry_died=True).todo) == 1


def test_videos_whose_short_keys_are_the_same_get_longer_ones(tmp_path, monkeypatch):
    from pipeline.training_data import videos

    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "film.mp4").write_bytes(b"x")
    before = [video.key for video in videos.read_source(str(tmp_path))]
    key = videos.video_key
    monkeypatch.setattr(
        videos,
        "video_key",
        lambda uri, base, digits=8: "film-00000000" if digits == 8 and "three" not in uri else key(uri, base, digits),
    )
    found = {video.uri.split("/")[-2]: video.key for video in videos.read_source(str(tmp_path))}
    assert found["three"] in before
    assert found["one"] != found["two"]
    assert len(found["one"]) == len("film-") + videos.LONG_KEY
