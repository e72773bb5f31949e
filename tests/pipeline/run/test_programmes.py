"""What a row of a programme continues from is a part of its fingerprint."""

import json
from dataclasses import replace
from fractions import Fraction

from pipeline.manifest.programme_gaps import with_gaps
from pipeline.manifest.reader import read_manifest
from pipeline.run.plan_rows import Identities, Identity
from pipeline.run.planned_clips import PlannedClips
from pipeline.run.programmes import Programmes
from pipeline.run.selection import Selection


def linked(folder, *rows):
    """(fingerprint of each row by clip_id, the programmes), where a row's own part is its column `text`."""
    usual = {"image": "/i.png", "audio": "/a.wav", "programme": "a"}
    lines = [json.dumps(usual | {"clip_id": f"c{row.get('order')}"} | row) for row in rows]
    (folder / "m.jsonl").write_text("\n".join(lines))
    manifest = read_manifest(str(folder / "m.jsonl"))
    programmes = Programmes(manifest.clips, manifest.rejected)

    def identify(chosen):
        return ((one, Identity(one[1].extra.get("text", "same"), "{}", 1.0)) for one in chosen)

    found = programmes.identities(identify)
    return {clip.clip_id: found[clip.row].fingerprint for clip in manifest.clips if clip.programme}, programmes


ROWS = [{"order": n} for n in range(4)]


def test_a_changed_row_changes_those_that_follow_and_no_other(tmp_path):
    before, programmes = linked(tmp_path, *reversed(ROWS))
    assert linked(tmp_path, *ROWS)[0] == before  # by their order, and not by their place in the manifest
    after, _ = linked(tmp_path, *(row | ({"text": "other"} if row["order"] == 2 else {}) for row in ROWS))
    assert [name for name in before if before[name] != after[name]] == ["c3", "c2"]
    assert len(set(before.values())) == 4
    assert [(place.after_clip, place.after) for _, place in sorted(programmes.places.items())] == [
        ("c2", before["c2"]),
        ("c1", before["c1"]),
        ("c0", before["c0"]),
        ("", ""),
    ]


def test_a_new_last_row_changes_nothing_and_two_programmes_know_nothing_of_each_other(tmp_path):
    before, _ = linked(tmp_path, *ROWS)
    others = [{"order": n, "programme": "b", "clip_id": f"b{n}"} for n in range(2)]
    after, _ = linked(tmp_path, *ROWS, {"order": 9}, *others)
    assert before.items() <= after.items()


def test_a_row_after_a_rejected_one_begins_anew_and_is_what_a_first_row_would_be(tmp_path):
    rejected = {"order": 1, "seed": "no number"}
    found, programmes = linked(tmp_path, ROWS[0], rejected, *ROWS[2:])
    alone, _ = linked(tmp_path, *ROWS[2:])
    assert {name: found[name] for name in alone} == alone
    assert programmes.places[3].broken == "the row before it, c1, was rejected"
    assert programmes.places[4].broken == ""


def test_the_room_that_a_row_has_is_a_part_of_it(tmp_path):
    rows = [{"order": n, "timecode": f"10:00:0{n}:00"} for n in range(3)]
    before, _ = linked(tmp_path, *rows)
    after, _ = linked(tmp_path, *rows[:2], rows[2] | {"timecode": "10:00:02:01"})
    assert [name for name in before if before[name] != after[name]] == ["c1", "c2"]


def test_gaps_are_parts_of_fingerprints_and_their_clips_need_no_request(tmp_path):
    """As for a long manifest, of which the driver gets the identities of the rows alone."""

    def marks(frames, filled=True):
        rows = [{"order": 1, "timecode": "10:00:00:00", "frames": frames}, {"order": 2, "timecode": "10:00:02:00"}]
        rows.append({"order": 3, "timecode": "10:00:04:00"})
        rows = [
            {"clip_id": f"c{n}", "image": "/i.png", "audio": "/a.wav", "programme": "p"} | r for n, r in enumerate(rows)
        ]
        (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
        manifest = read_manifest(str(tmp_path / "m.jsonl"))
        manifest = with_gaps(manifest, Fraction(25)) if filled else manifest
        identities = Identities()
        for row in (1, 2, 3):
            identities.add(row, Identity(f"{row:012x}", "{}", 1.0))
        programmes = Programmes(manifest.clips)
        found = programmes.identities(identities.of)
        known = [one for _, one in identities.of(enumerate(manifest.clips), known=found)]
        assert known == [found[clip.row] for clip in manifest.clips]
        seconds = {clip.clip_id: found[clip.row].seconds for clip in manifest.clips}
        return {clip.clip_id: programmes.places[clip.row] for clip in manifest.clips}, seconds

    places, seconds = marks(40)
    assert places["c1"].after == places["c0-gap"].mark
    assert places["c0-gap"].after == places["c0"].mark
    assert (seconds["c0-gap"], seconds["c1"], seconds["c2"]) == (0.4, 2.0, 1.0)
    other, _ = marks(41)
    assert [name for name in places if places[name].mark != other[name].mark] == ["c1", "c2", "c0-gap"]
    left, _ = marks(40, filled=False)
    assert [name for name in left if places[name].mark != left[name].mark] == ["c1", "c2"]


def test_rows_whose_endings_are_lost_are_planned_again_back_to_one_that_is_there(tmp_path):
    _, programmes = linked(tmp_path, *ROWS)
    done = {1, 2, 3}

    def to_redo(*stored, todo=(4,)):
        return set(programmes.to_redo(done.__contains__, todo.__contains__, lambda clip_id, mark: clip_id in stored))

    assert to_redo("c2") == to_redo("c2", todo=()) == set()
    assert to_redo("c0") == {2, 3}
    assert to_redo() == {1, 2, 3}


def test_another_take_goes_on_from_the_take_of_the_row_before_that_is_delivered(tmp_path):
    _, programmes = linked(tmp_path, *ROWS)
    clips = read_manifest(str(tmp_path / "m.jsonl")).clips
    first, second, third, _ = (replace(clip, programme=programmes.places[clip.row]) for clip in clips)
    assert programmes.continued(second, {1: "0" * 12 + "-2"}).programme.after == "0" * 12 + "-2"
    assert programmes.continued(third, {1: "0" * 12 + "-2"}) == third
    assert programmes.continued(first, {2: "1" * 12}) == first


def test_clips_move_between_the_lists_of_a_plan_and_stay_in_order(tmp_path):
    _, programmes = linked(tmp_path, *ROWS)
    clips = read_manifest(str(tmp_path / "m.jsonl")).clips
    done, todo = PlannedClips(clips, programmes.places), PlannedClips(clips, programmes.places)
    for row in (1, 2, 4):
        done.add(row - 1, row, f"{row:012x}")
    todo.add(2, 3, f"{3:012x}")
    done, todo, gone = done.moved(todo, {2, 4})
    assert ([clip.clip_id for clip in done], [clip.clip_id for clip in todo]) == (["c0"], ["c1", "c2", "c3"])
    assert gone == [1, 2]
    assert [clip.fingerprint for clip in todo] == [f"{row:012x}" for row in (2, 3, 4)]
    assert todo[1].programme.after_clip == "c1"
    assert (todo.has(2), todo.has(1), done.has(1), done.has(9)) == (True, False, True, False)


def test_a_programme_is_in_one_shard(tmp_path):
    (clip,) = read_manifest(str(_one(tmp_path))).clips
    alike = [replace(clip, clip_id=f"c{n}") for n in range(20)]
    parts = [sum(Selection(shard=f"{i}/4").takes(one, {}) for one in alike) for i in (1, 2, 3, 4)]
    assert sorted(parts) == [0, 0, 0, 20]


def _one(folder):
    (folder / "m.jsonl").write_text(json.dumps({"image": "/i.png", "audio": "/a.wav", "programme": "a", "order": 1}))
    return folder / "m.jsonl"
