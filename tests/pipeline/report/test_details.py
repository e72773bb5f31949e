"""The panels of the report: what the last page has is not loaded again, and what it has not is."""

import base64
import json
import re
import shutil

import pytest

from pipeline.ledger.ledger import Ledger
from pipeline.media.jpeg_comment import with_comment
from pipeline.report.render_report import write_report

HOSTILE = "</script><img src=x>"


def row(i, version="1"):
    return {
        "clip_id": f"clip-{i} é",
        "row": i + 1,
        "status": "done",
        "fingerprint": f"{i:012x}",
        "qc_version": version,
        "qc_status": ("pass", "review", "fail")[i % 3],
    }


@pytest.fixture
def output(tmp_path):
    """An output folder with five measured clips; their contact sheets are a kilobyte each."""
    for i in range(5):
        measure(tmp_path, i, label=f"first {i}")
    return tmp_path


def sheet_of(i):
    return b"\xff\xd8" + bytes([i]) * 996 + b"\xff\xd9"


def measure(output, i, label):
    known = {"curves": {"rate": 25.0, "mouth": [None, 0.5], "speech": [1.0, 0.0]}, "sheet_labels": [label, HOSTILE]}
    clip = row(i)
    Ledger(str(output)).write_qc(clip["clip_id"], clip["fingerprint"], json.dumps(known).encode(), sheet_of(i))


def page(output, rows, **options):
    uri, _ = write_report(str(output), rows, {"run": "r"}, **options)
    with open(uri, encoding="utf-8") as file:
        return file.read()


def blocks(text):
    """Row of the page -> content of its block, and the rows whose contact sheet is embedded."""
    found = {int(i): json.loads(data) for i, data in re.findall(r' id="d(\d+)">(.*)</script>\n', text)}
    return found, {int(i) for i in re.findall(r' id="s(\d+)">', text)}


def test_a_report_of_the_same_clips_needs_none_of_their_files(output):
    first = page(output, map(row, range(5)))
    found, sheets = blocks(first)
    assert found.keys() == sheets == set(range(5))
    assert found[2]["labels"] == ["first 2", HOSTILE]
    shutil.rmtree(output / "qc")
    assert page(output, map(row, range(5))) == first
    assert blocks(page(output, map(row, range(5)), anew=True)) == ({}, set())


def test_a_contact_sheet_that_carries_the_measurements_is_enough(output):
    known = {
        "version": "1",
        "curves": {"rate": 25.0, "mouth": [0.5], "speech": [1.0]},
        "sheet_labels": ["in the sheet"],
    }
    image = b"\xff\xd8\xff\xe0\x00\x04JF\xff\xda and so on\xff\xd9"
    files = {
        "clip-1 é.000000000001.jpg": with_comment(image, json.dumps(known).encode()),
        "clip-2 é.000000000002.jpg": with_comment(image, json.dumps(known | {"version": "0"}).encode()),
        "clip-3 é.000000000003.jpg": with_comment(image, b"Made with another program"),
    }
    for name, data in files.items():
        (output / "qc" / name).write_bytes(data)
    text = page(output, map(row, range(5)))
    found, _ = blocks(text)
    assert [found[i]["labels"][0] for i in range(5)] == ["first 0", "in the sheet", "first 2", "first 3", "first 4"]
    assert text.count(base64.b64encode(image).decode()) == 3  # without their comments


def test_the_numbered_faces_are_part_of_a_clips_details(output):
    known = {"curves": {"rate": 25.0, "mouth": [0.5], "speech": [1.0]}, "sheet_labels": ["x"], "faces": "QUJD"}
    Ledger(str(output)).write_qc("clip-1 é", "000000000001", json.dumps(known).encode(), sheet_of(1))
    found, _ = blocks(page(output, map(row, range(5))))
    assert (found[1]["faces"], "faces" in found[0]) == ("QUJD", False)


@pytest.mark.parametrize(("tile", "told"), [([320, 180], True), ([320], False), (["320", 180], False), (None, False)])
def test_the_size_of_a_full_frames_tile_is_part_of_its_details(tile, told, output):
    known = {"curves": {"rate": 25.0, "mouth": [0.5], "speech": [1.0]}, "sheet_labels": ["x"], "sheet_tile": tile}
    Ledger(str(output)).write_qc("clip-1 é", "000000000001", json.dumps(known).encode(), sheet_of(1))
    found, _ = blocks(page(output, map(row, range(5))))
    assert (found[1].get("tile"), "tile" in found[0]) == (tile if told else None, False)


@pytest.mark.parametrize("damaged", [sheet_of(1)[:500], b"", sheet_of(1)[:-2] + b"\0\0", b"text"])
def test_a_damaged_contact_sheet_is_left_out_with_a_note_until_it_is_made_again(damaged, output, caplog):
    page(output, map(row, range(5)), embed_megabytes=0)
    file = output / "qc" / "clip-1 é.000000000001.jpg"
    file.write_bytes(damaged)
    found, sheets = blocks(page(output, map(row, range(5))))
    assert sheets == {0, 2, 3, 4}
    assert "sheet" not in found[1]
    assert found[1]["note"].startswith("The contact sheet is damaged (it is ")
    assert f"{file} is damaged" in caplog.text
    file.write_bytes(sheet_of(1))
    found, sheets = blocks(page(output, map(row, range(5))))
    assert sheets == set(range(5))
    assert "note" not in found[1]


def test_clips_that_are_new_moved_or_measured_again_are_shown_as_they_are(output):
    page(output, map(row, (0, 1, 2)))
    for i in range(5):
        measure(output, i, label=f"second {i}")
    found, sheets = blocks(page(output, [row(3), row(2), row(1, version="2")]))
    assert [found[i]["labels"][0] for i in range(3)] == ["second 3", "first 2", "second 1"]
    assert sheets == {0, 1, 2}


def test_sheets_that_the_last_page_had_no_room_for_are_loaded_if_there_is_room_now(output):
    _, sheets = blocks(page(output, map(row, range(5)), embed_megabytes=0.0014))
    assert sheets == {2, 1}  # the worst verdicts first
    again, sheets = blocks(page(output, map(row, range(5)), embed_megabytes=0.0014))
    assert sheets == {2, 1}
    assert again.keys() == set(range(5))
    _, sheets = blocks(page(output, map(row, range(5))))
    assert sheets == set(range(5))


@pytest.mark.parametrize(
    "last",
    [
        b"\xff\xfe no text at all",
        b'<script type="application/json" id="d0">{"curves": </script>\n',
        b'<script type="application/json" id="d0">{"curves": {}, "labels": []}</script>\n',  # of an earlier version
    ],
)
def test_a_page_that_is_damaged_or_of_another_version_is_in_nobodys_way(output, last):
    (output / "report.html").write_bytes(last)
    found, _ = blocks(page(output, map(row, range(5))))
    assert [found[i]["labels"][0] for i in range(5)] == [f"first {i}" for i in range(5)]


def test_what_comes_from_the_last_page_is_escaped_again(output):
    text = page(output, [row(0)])
    (output / "report.html").write_text(text.replace("first 0", "\\u003c/script>\\u003cimg>"), encoding="utf-8")
    again = page(output, [row(0)])
    assert blocks(again)[0][0]["labels"][0] == "</script><img>"
    assert again.count("<img") == text.count("<img")
