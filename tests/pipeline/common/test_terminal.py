"""What a terminal would obey is printed and not done."""

import contextlib
import io
import json
import logging
import sys

import pytest

from pipeline.common.errors import ClipError
from pipeline.common.progress import Progress
from pipeline.common.terminal import FilteredStream, filter_output, one_line, unfiltered, visible
from tests.running import run_job

HOSTILE = [
    ("\x1b]0;owned\x07\x1b[2J\x1b[31mred", r"\x1b]0;owned\x07\x1b[2J\x1b[31mred"),
    ("\x9b31mred", r"\x9b31mred"),  # the same sequence in one character
    ("a\rb\x08c\x7f\x00", r"a\rb\x08c\x7f\x00"),
    ("clip\u202egpj.wav", r"clip\u202egpj.wav"),
    ("\u2066a\u2069\u200f\u061c", r"\u2066a\u2069\u200f\u061c"),
    ("a\u200b\ufeff\u2028b", r"a\u200b\ufeff\u2028b"),
    ("\ud800", r"\ud800"),
    ("\U000e0041", r"\U000e0041"),
]
ORDINARY = ["プレゼン 🎬 नमस्ते ى می\u200cشود", "tab\tand\nline", "C:\\x1b", "é = e\u0301"]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_what_a_terminal_obeys_is_written_out(text, shown):
    assert visible(text) == shown
    assert visible(shown) == shown


@pytest.mark.parametrize("text", ORDINARY)
def test_letters_of_all_scripts_stay_as_they_are(text):
    assert visible(text) == text


def test_a_value_cannot_begin_a_line_of_its_own():
    assert one_line("a\nerror: b\tc\x1b") == r"a\nerror: b\tc\x1b"
    assert ClipError("value_invalid", "row 1: 'a\n\x1b[2J'").message == r"row 1: 'a\n\x1b[2J'"


def test_all_that_a_process_prints_is_filtered_once(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(sys, "stderr", shown)
    filter_output()
    filter_output()
    print("out \x1b[1m", flush=True)
    sys.stderr.writelines(["err \x1b[1m", "\n"])
    handler = logging.StreamHandler()
    handler.emit(logging.makeLogRecord({"msg": "log \x1b[1m"}))
    assert shown.getvalue() == "out \\x1b[1m\nerr \\x1b[1m\nlog \\x1b[1m\n"
    assert unfiltered(sys.stdout) is shown
    assert not sys.stdout.isatty()


def test_a_terminal_without_the_letters_gets_their_numbers():
    raw = io.BytesIO()
    stream = FilteredStream(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    assert stream.write("プ\x1b") == 2
    assert raw.getvalue() == b"\\u30d7\\x1b"


def test_the_progress_bar_still_moves_the_cursor(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    filter_output()
    with Progress(2) as progress:
        progress.add({"status": "done"})
    assert "\r" in sys.stderr.getvalue()
    assert "\\r" not in sys.stderr.getvalue()


@pytest.mark.parametrize("flag", ["--dry-run", "--check"])
def test_escapes_in_a_manifest_do_not_reach_the_terminal(tmp_path, tiny_model, flag):
    rows = [
        {"clip_id": "\x1b]0;owned\x07\x1b[2J\x1b[31mred\nerror: x", "image": "a", "audio": "b"},
        {"clip_id": "a", "image": "\x1b[2J\u202e.png", "audio": "b\x1bc.wav"},
        {"\x1b[2J": 1, "image": "a.png", "audio": "c.wav", "seed": "\x1b[5m"},
    ]
    (tmp_path / "m\x1b[1m.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    done = run_job("render", flag, "manifest=m\x1b[1m.jsonl", f"model={tiny_model.path}", cwd=tmp_path)
    assert done.returncode == 1
    assert "\\x1b]0;owned\\x07\\x1b[2J\\x1b[31mred\\nerror: x" in done.stdout
    assert not set(done.stdout + done.stderr) & set("\x1b\x07\u202e")


def test_a_refused_key_does_not_reach_it_either():
    with contextlib.redirect_stdout(io.StringIO()):
        done = run_job("status", "output=\x1b[2J/nowhere")
    assert done.returncode in (2, 3)
    assert "\x1b" not in done.stdout + done.stderr
    assert "\\x1b[2J" in done.stderr
