"""A producer's morning, as a person goes through it: render, review with keys, repair, retake, deliver."""

import contextlib
import csv
import shutil
import threading
from pathlib import Path

import pytest

from pipeline.common.limits import Limits
from pipeline.ledger.table import table_rows
from pipeline.report.review_server import ReviewServer
from tests import chromium
from tests.running import run_job

MEDIA = Path(__file__).parents[2] / "jobs" / "demo" / "media"


@contextlib.contextmanager
def review(output):
    """The report of `floatcast review` in a browser."""
    rows = {row["row"]: row for row in table_rows(f"{output}/clips.parquet")}
    with ReviewServer(str(output), rows, Limits()) as server, chromium.Browser() as page:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            page.open(server.address + "#sort=row")
            page.wait("document.querySelectorAll('tr[data-clip]').length")
            yield page
            assert page.errors == []
        finally:
            server.shutdown()
            thread.join()


def open_clip(page, clip_id):
    page.run(f"document.querySelector('tr[data-clip=\"{clip_id}\"] .open').click()")
    assert page.run("document.querySelector('#p-title').textContent") == clip_id


def saved(page):
    page.wait("document.querySelector('#marked').textContent.includes('saved in review.csv')")
    page.run("waiting")  # everything that was sent before


@pytest.mark.slow
@pytest.mark.skipif(chromium.NAME is None, reason="no Chromium here: apt-get install chromium")
def test_from_a_manifest_with_a_bad_file_to_a_delivery_nothing_is_rendered_twice(tiny_model, tmp_path):
    audio, portrait = MEDIA / "speech_en_arctic_a0007_part.wav", MEDIA / "portrait_2017.png"
    bad = tmp_path / "five.wav"
    bad.write_bytes(b"not a recording")
    rows = [
        [f"clip-{n}", portrait, bad if n == 5 else audio, "happy" if n == 2 else "", "UK" if n < 4 else "France"]
        for n in range(1, 7)
    ]
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["clip_id", "image", "audio", "emotion", "market"], *rows])
    out, to = tmp_path / "out", tmp_path / "delivery"
    keys = [f"manifest={tmp_path / 'm.csv'}", f"model={tiny_model.path}", f"output={out}", "executor=serial"]

    first = run_job("render", *keys)
    assert first.returncode == 1, first.stderr
    assert "correct what was rejected" in first.stdout
    videos = {path.name: path.stat().st_mtime_ns for path in (out / "videos").iterdir()}
    assert len(videos) == 5

    with review(out) as page:
        assert "audio_unreadable" in page.run("document.querySelector('tr[data-clip=\"clip-5\"] .findings').title")
        open_clip(page, "clip-1")
        page.key("a")  # goes on to clip-2
        page.key("r")
        page.run("document.querySelector('#comment').value = 'looks away'")
        page.run("document.querySelector('#comment').dispatchEvent(new Event('change'))")
        page.run("document.activeElement.blur()")
        page.key("j")
        page.key("a")
        saved(page)

    shutil.copy(audio, bad)
    repaired = run_job("render", *keys, "only=failed")
    assert repaired.returncode == 0, repaired.stdout
    assert "plan: 1 new" in repaired.stdout
    retaken = run_job("render", *keys)
    assert retaken.returncode == 0, retaken.stdout
    assert "a reviewer asked for a retake" in retaken.stdout
    now = {path.name: path.stat().st_mtime_ns for path in (out / "videos").iterdir()}
    assert len(now) == 7  # the repaired clip, and another take
    assert videos.items() <= now.items()

    early = run_job("deliver", f"output={out}", f"to={to}", "name={market}/{clip_id}.mp4")
    assert early.returncode == 1
    assert "4 clips, not approved by a reviewer" in early.stdout
    with review(out) as page:
        open_clip(page, "clip-2")
        assert page.run("document.querySelectorAll('.takes video').length") == 1  # the take that looked away
        page.key("a")
        page.key("Escape")
        page.wait("!document.querySelector('#panel').open")
        page.run("window.confirm = () => true")
        page.run("document.querySelector('#batch').click()")
        saved(page)
    done = run_job("deliver", f"output={out}", f"to={to}", "name={market}/{clip_id}.mp4")
    assert done.returncode == 0, done.stdout
    assert {path.relative_to(to).as_posix() for path in to.rglob("*.mp4")} == {
        f"{'UK' if n < 4 else 'France'}/clip-{n}.mp4" for n in range(1, 7)
    }
    assert len(list((out / "videos").iterdir())) == 7
