"""Programmes in a manifest: their order, and rows that cannot be put in order."""

import json

import pytest

from pipeline.manifest.programme import Member, ordered
from pipeline.manifest.reader import read_manifest


def read(folder, *rows):
    lines = [
        json.dumps({"clip_id": f"c{n}", "image": "/i.png", "audio": "/a.wav", **row}) for n, row in enumerate(rows)
    ]
    (folder / "m.jsonl").write_text("\n".join(lines))
    return read_manifest(str(folder / "m.jsonl"))


def in_order(manifest):
    members = [Member(clip.row, clip.clip_id, clip.programme) for clip in manifest.clips if clip.programme]
    return [(member.clip_id, member.programme.number, member.programme.room) for member in ordered(members)]


def test_rows_are_ordered_by_order_or_else_by_time_code(tmp_path):
    by_order = read(tmp_path, *({"programme": "a", "order": order} for order in (3, 1, "2.5", -1)))
    assert [name for name, _, _ in in_order(by_order)] == ["c3", "c1", "c2", "c0"]
    times = ("10:00:02:00", "10:00:00:00", "10:00:00:24")
    by_time = read(tmp_path, *({"programme": "a", "timecode": time} for time in times))
    assert in_order(by_time) == [("c1", 0, 24), ("c2", 1, 26), ("c0", 2, None)]
    over_midnight = ({"order": 1, "timecode": "23:59:59:00"}, {"order": 2, "timecode": "00:00:01:00"})
    assert in_order(read(tmp_path, *({"programme": "a"} | row for row in over_midnight))) == [
        ("c0", 0, 50),
        ("c1", 1, None),
    ]


def test_order_is_an_own_column_of_rows_without_a_programme_and_stays_one(tmp_path):
    manifest = read(tmp_path, {"order": "first course"}, {"order": 7, "programme": "a"}, {"programme": ""})
    assert [clip.extra.get("order") for clip in manifest.clips] == ["first course", 7, None]
    assert [clip.programme is None for clip in manifest.clips] == [True, False, True]


@pytest.mark.parametrize(
    ("rows", "messages"),
    [
        ([{}, {"order": 1}], {"c0": "needs an order or a time code"}),
        ([{"order": "one"}, {"order": 1}], {"c0": "column order: 'one' is not a number"}),
        ([{"order": 1}, {"order": 2}, {"order": 1.0}], dict.fromkeys(("c0", "c2"), "rows 1, 3 of this programme")),
        ([{"order": 1}, {"timecode": "10:00:00:00"}], {"c1": "other rows of this programme have an order"}),
        (
            [{"order": 1, "timecode": "10:00:01:00"}, {"order": 2, "timecode": "10:00:00:00"}],
            {"c1": "10:00:00:00 is not after 10:00:01:00, the time code of row 1"},
        ),
        ([{"programme": "a/b", "order": 1}], {"c0": "column programme: 'a/b' cannot be used as a file name"}),
    ],
)
def test_rows_that_cannot_be_put_in_order_are_rejected_and_say_why(tmp_path, rows, messages):
    manifest = read(tmp_path, *({"programme": "a"} | row for row in rows))
    found = {rejected.clip_id: rejected.error.message for rejected in manifest.rejected}
    assert found.keys() == messages.keys()
    for name, text in messages.items():
        assert text in found[name]


def test_programmes_whose_names_differ_in_case_are_one_because_their_files_would_be(tmp_path):
    manifest = read(tmp_path, {"programme": "News", "order": 1}, {"programme": "NEWS", "order": 1})
    assert [rejected.error.code for rejected in manifest.rejected] == ["value_invalid"] * 2
