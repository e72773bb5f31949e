"""The report in a real Chromium, as people use it."""

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.ledger.ledger import Ledger
from pipeline.ledger.table import RowSpool, write_table
from pipeline.measure.metrics import METRICS
from pipeline.qc.verdict import judge
from pipeline.report.details import LETTERS
from pipeline.report.render_report import write_report
from tests import chromium
from tests.running import run_job
from tests.synthetic_videos import SyntheticVideo, speech

CLIPS = 3_000
HOSTILE = "</script><img src=x onerror=document.title='owned'>"

pytestmark = pytest.mark.skipif(chromium.NAME is None, reason="no Chromium here: apt-get install chromium")


def made_rows(output):
    random = np.random.default_rng(0)
    for i in range(CLIPS):
        mark = f"{i:012x}"
        row = {
            "clip_id": f"clip-{i:05}" if i else "인사-01 <b>",
            "row": i + 1,
            "status": "done",
            "fingerprint": mark,
            "language": ("de", "es", "ko", "pt-BR")[i % 4],
            "speaker": HOSTILE if i == 7 else ("Anna", "Jürgen", "김민지")[i % 3],
            "duration": 4.0 + i % 17,
            "fps": 25.0,
            "frames": 100 + 25 * (i % 17),
            "take": 1,
            "takes": 1 + (i % 50 == 0),
            "model_trained": True,
            "seed": i,
            "market": ("UK", "France", HOSTILE)[i % 3],
            "uri": f"{output}/videos/clip {i}#1.{mark}.mp4",
            "qc_version": "1",
            "qc_lip_correlation": float(np.clip(random.normal(0.6, 0.2), -1, 1)),
            "qc_loudness_lufs": float(random.normal(-23, 1)),
            "qc_face_share": float(min(1, random.normal(1.04, 0.02))),
            "qc_yaw_deg": float(abs(random.normal(0, 18))),
            "qc_seam_z": float(random.gumbel(1, 1)) if i else 9.0,
        }
        if i % 97 == 5:
            row |= {"status": "rejected", "error_code": "face_not_found", "error_message": f"image {HOSTILE}: none"}
            row |= {"qc_version": None}
        else:
            verdict = judge(row)
            row |= {"qc_status": verdict.status, "qc_reasons": verdict.reasons, "qc_messages": verdict.messages}
        yield row


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """3,000 clips, the first 200 of them with metrics, and the first with a real video."""
    folder = tmp_path_factory.mktemp("my report")
    ledger = Ledger(str(folder))
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (160, 800, 3), dtype=np.uint8)).save(buffer, "JPEG")
    curve = [abs(np.sin(i / 9)) for i in range(600)]
    known = {
        "version": "1",
        "figures": {},
        "notes": [],
        "seconds": 1.0,
        "sheet_labels": ["first 0.00 s", "middle 1.00 s", *["seam 2.00 s"] * 3],
    }
    speaking = [1.0] * 300 + [0.1] * 100 + [1.0] * 200
    known["curves"] = {"rate": 25.0, "mouth": [None, *curve[1:]], "speech": speaking, "seams": [2.0, 4.0]}
    known["curves"]["emotions"] = [[1.0, 3.5, "happy", 0.82], [5.0, 7.0, "fear", None]]
    for i in range(200):
        clip_id = f"clip-{i:05}" if i else "인사-01 <b>"
        ledger.write_qc(clip_id, f"{i:012x}", json.dumps(known).encode(), buffer.getvalue())
    (folder / "videos").mkdir()
    SyntheticVideo(wave=speech(1.0)).write(folder / "videos" / "clip 0#1.000000000000.mp4")
    summary = {"run": "r1", "state": "finished", "manifest": "s3://b/m.csv", "frames": 5000, "rendering_seconds": 100.0}
    summary |= {"render_workers": 8, "gpus_per_worker": 1.0, "retakes": 3, "updated": 1.8e9, "render_idle_share": 0.1}
    uri, size = write_report(str(folder), made_rows(str(folder)), summary, embed_megabytes=3.0)
    return uri, size


@pytest.fixture(scope="module")
def browser():
    with chromium.Browser() as browser:
        yield browser


@pytest.fixture
def page(browser, report):
    browser.errors.clear()
    browser.resize(1280, 900)
    browser.open(f"file://{report[0].replace(' ', '%20')}")
    browser.run("localStorage.clear()")
    browser.open(f"file://{report[0].replace(' ', '%20')}")
    yield browser
    assert [error for error in browser.errors if "ERR_FILE_NOT_FOUND" not in error] == []  # one clip has a video
    assert browser.run("document.title") == "Floatcast report r1"  # nothing of a manifest has run


def choose(page, name, value):
    page.run(
        f"(() => {{ const f = document.getElementById('f-{name}'); f.value = {json.dumps(value)};"
        "f.dispatchEvent(new Event('input')); })()"
    )


def text(page, selector):
    return page.run(f"document.querySelector({json.dumps(selector)}).textContent")


def first_clips(page, count=3):
    return page.run(f"[...document.querySelectorAll('tr[data-clip]')].slice(0, {count}).map(tr => tr.dataset.clip)")


def click(page, selector):
    page.run(f"document.querySelector({json.dumps(selector)}).click()")


@pytest.mark.slow
def test_a_long_run_has_several_pages_and_what_a_person_should_look_at_is_on_the_first(browser, tmp_path):
    folder = tmp_path / "out"
    passed = {"qc_status": "pass", "qc_reasons": [], "qc_messages": []}
    rows = [row | passed for row in made_rows(str(folder)) if row["status"] == "done"][:1000]
    lost = {"status": "failed", "error_code": "lost", "error_message": "run it again", "qc_status": None}
    for number in (30, 700, 999):
        rows[number] |= lost
    (folder / "videos").mkdir(parents=True)
    (folder / "report.part-9.html").write_text("of a run with more clips")
    uri, _ = write_report(str(folder), rows, {"run": "r1", "state": "finished"}, part_clips=400)
    assert sorted(file.name for file in folder.glob("*.html")) == [
        *("report.html", "report.part-2.html", "report.part-3.html")
    ]
    browser.errors.clear()
    browser.open(f"file://{uri}")
    failed = [rows[number]["clip_id"] for number in (30, 700, 999)]
    assert first_clips(browser, 3) == failed
    assert text(browser, "#count") == "400 of 400 clips"
    assert "clips1,000" in text(browser, "#totals")
    assert "failed3" in text(browser, "#totals")
    assert "Part 1 of 3" in text(browser, "#parts")
    browser.open(f"file://{folder}/" + browser.run("document.querySelectorAll('#parts a')[2].getAttribute('href')"))
    assert text(browser, "#count") == "200 of 200 clips"
    assert "clips1,000" in text(browser, "#totals")
    assert browser.errors == []
    seen = [line for file in folder.glob("*.html") for line in file.read_text().splitlines() if line.startswith('["')]
    assert len(seen) == len(rows)


@pytest.mark.slow
def test_totals_pages_sorting_and_filters(page):
    assert text(page, "#count") == "3,000 of 3,000 clips"
    assert "0.222" in text(page, "#run")  # 8 workers x 1 GPU x 100 s
    order = page.run("rows.length && shown.map(worst)")
    assert order == sorted(order)  # the worst first
    assert order[0] == -1
    click(page, '[data-column="clip_id"]')
    assert page.run("document.querySelectorAll('tbody tr').length") == 50
    assert text(page, "#page") == "page 1 of 60"
    click(page, "#next")
    assert first_clips(page, 1) == ["clip-00051"]  # after 인사, which is sorted first
    click(page, '[data-column="duration"]')
    click(page, '[data-column="duration"]')
    assert page.run("document.querySelector('[aria-sort=descending] button').dataset.column") == "duration"
    assert first_clips(page, 2) == ["clip-00016", "clip-00033"]
    choose(page, "language", "ko")
    choose(page, "quality", "review")
    choose(page, "text", "CLIP-01")
    shown = page.run("document.querySelectorAll('tbody tr').length")
    expected = [r for r in made_rows("") if r["language"] == "ko" and r.get("qc_status") == "review"]
    expected = [r["clip_id"] for r in expected if "clip-01" in r["clip_id"]]
    assert text(page, "#count").startswith(f"{len(expected)} of")
    assert shown == min(50, len(expected))
    page.reload()  # the address keeps it all
    assert text(page, "#count").startswith(f"{len(expected)} of")
    click(page, "#filters [type=reset]")
    page.wait("document.querySelector('#count').textContent.startsWith('3,000')")
    click(page, "#errors button")
    assert text(page, "#count").startswith("31 of")


def in_order(page):
    """The first clip has a video, and those after it have measurements."""
    page.run("state.sort = 'row', refresh()")


@pytest.mark.slow
def test_a_clip_opens_with_its_video_sheet_plot_and_metrics(page):
    in_order(page)
    click(page, "tr[data-clip] .open")
    page.wait("document.querySelector('#panel').open")
    assert text(page, "#p-title") == "인사-01 <b>"
    assert page.run("document.querySelector('.sheet img').src.slice(0, 22)") == "data:image/jpeg;base64"
    page.wait("document.querySelector('.sheet img').naturalWidth === 800")
    assert page.run("document.querySelector('.plot .mouth').getAttribute('d').length") > 1000
    assert page.run("document.querySelector('.plot .mouth').getAttribute('d').startsWith('M0.0')")
    page.run("document.querySelector('video').load()")
    page.wait("document.querySelector('video').readyState >= 1 || document.querySelector('video').error")
    assert page.run("document.querySelector('video').duration") == pytest.approx(1.0, abs=0.1)
    facts = text(page, "#p-body")
    assert "lip correlation" in facts
    assert "LUFS" in facts
    page.key("j")
    assert text(page, "#p-title") == "clip-00001"
    page.key("k")
    assert text(page, "#p-title") == "인사-01 <b>"
    page.key("Escape")
    page.wait("!document.querySelector('#panel').open")
    # The event that gives the focus back comes some time after the panel is closed.
    page.wait("document.activeElement.closest('tr')?.dataset.clip === '인사-01 <b>'")
    page.key("Enter")
    choose(page, "text", "clip-00100")  # beyond 3 MB of sheets, of which the worst come first
    sources = [page_source(page, name) for name in ("clip-00100", "clip-00197", "clip-00198")]
    assert any(source.startswith("file:") and source.endswith(".jpg") for source in sources)


def page_source(page, name):
    page.run("document.querySelector('#panel').open && document.querySelector('#panel').close()")
    page.wait("!document.querySelector('#p-body').children.length")
    choose(page, "text", name)
    page.wait(f"document.querySelectorAll('tr[data-clip={json.dumps(name)}]').length === 1")
    click(page, "tr[data-clip] .open")
    page.wait("document.querySelector('.sheet img').naturalWidth === 800")
    return page.run("document.querySelector('.sheet img').src")


@pytest.mark.slow
def test_people_say_what_they_think_and_take_it_along_as_a_file(page):
    in_order(page)
    click(page, "tr[data-clip] .open")
    comment = '=looks away, "badly"\nat 3 s'
    page.run(f"document.querySelector('#comment').value = {json.dumps(comment)}")
    click(page, '[data-verdict="retake"]')
    assert page.run("document.querySelector('[data-verdict=retake]').getAttribute('aria-pressed')") == "true"
    page.key("Escape")
    page.reload()
    rows = list(csv.DictReader(io.StringIO(page.run("reviewCsv()"))))
    expected = {"clip_id": "인사-01 <b>", "take": "1", "verdict": "retake", "comment": f"'{comment}"}
    assert rows == [expected | {"fingerprint": "000000000000"}]
    assert "1 clip marked" in text(page, "#marked")
    assert "1 another take" in text(page, "#marked")
    choose(page, "review", "retake")
    assert text(page, "#count").startswith("1 of")


@pytest.mark.slow
def test_a_night_is_reviewed_with_keys_and_the_rest_at_once(page):
    choose(page, "quality", "review")
    choose(page, "language", "ko")
    first, second, third = first_clips(page)
    waiting = int(text(page, "#count").split()[0].replace(",", ""))
    click(page, "tr[data-clip] .open")
    page.key("a")  # approves, and goes on
    assert text(page, "#p-title") == second
    page.key("r")  # asks for another take, and lets the person say why
    assert page.run("document.activeElement.id") == "comment"
    page.run("document.activeElement.blur()")
    page.key("j")
    assert text(page, "#p-title") == third
    page.key("a")
    page.key("ArrowLeft")
    page.key("u")
    page.key("Escape")
    page.wait("!document.querySelector('#panel').open")
    kept = {row["clip_id"]: row["verdict"] for row in csv.DictReader(io.StringIO(page.run("reviewCsv()")))}
    assert kept == {first: "approved", second: "retake"}
    assert f"Approve the {waiting - 2} shown" in text(page, "#batch")
    page.run("window.confirm = () => true")
    click(page, "#batch")
    kept = [row["verdict"] for row in csv.DictReader(io.StringIO(page.run("reviewCsv()")))]
    assert sorted(kept) == ["approved"] * (waiting - 1) + ["retake"]
    choose(page, "review", "unreviewed")
    assert text(page, "#count").startswith("0 of")
    assert page.run("document.querySelector('#batch').hidden")


@pytest.mark.slow
def test_pictures_are_another_view_of_the_same_clips(page):
    in_order(page)
    click(page, "[data-view=grid]")
    clips = page.run("[...document.querySelectorAll('#grid > [data-clip]')].map(e => e.dataset.clip)")
    assert len(clips) == 50
    assert clips[1] == "clip-00001"
    style = page.run("getComputedStyle(document.querySelector('#grid .thumb')).backgroundImage.slice(0, 27)")
    assert style == 'url("data:image/jpeg;base64'
    assert page.run("document.querySelector('#grid .thumb').style.backgroundPosition").startswith("25%")  # the middle
    page.reload()
    assert not page.run("document.querySelector('#grid').hidden")
    click(page, "#grid .open")
    assert text(page, "#p-title") == "인사-01 <b>"


@pytest.mark.slow
def test_the_manifests_own_columns_are_shown_searched_and_filtered(page):
    in_order(page)
    assert "market" in text(page, "thead")
    choose(page, "own", json.dumps(["market", "France"], separators=(",", ":")))
    assert text(page, "#count").startswith("1,000 of")
    click(page, "tr[data-clip] .open")
    assert "France" in text(page, "#p-body")
    page.key("Escape")
    click(page, "#filters [type=reset]")
    page.wait("document.querySelector('#count').textContent.startsWith('3,000')")
    choose(page, "text", "france")
    assert text(page, "#count").startswith("1,000 of")


@pytest.mark.slow
def test_the_plot_shows_pauses_and_seams_and_a_click_plays_from_there(page):
    in_order(page)
    click(page, "tr[data-clip] .open")
    assert page.run("document.querySelectorAll('.plot .pause').length") == 1
    assert page.run("document.querySelectorAll('.plot .seam').length") == 2
    assert page.run("[...document.querySelectorAll('.plot .span')].map((one) => one.textContent)") == [
        *("happy 0.82", "fear"),
    ]
    page.wait("document.querySelector('.media video').readyState >= 1")
    page.run(
        "(() => { const p = document.querySelector('.plot svg'), b = p.getBoundingClientRect();"
        "p.dispatchEvent(new MouseEvent('click', { clientX: b.left + b.width / 48, clientY: b.top + 5 })); })()"
    )  # a 48th of 24 s
    page.wait("document.querySelector('.media video').currentTime >= 0.45")


@pytest.mark.slow
def test_a_link_to_a_clip_works_in_an_open_tab(page):
    page.run("location.hash = 'clip=clip-00002'")
    page.wait("document.querySelector('#panel').open")
    assert text(page, "#p-title") == "clip-00002"
    page.run("location.hash = 'quality=fail'")
    page.wait("!document.querySelector('#panel').open")


@pytest.mark.slow
def test_what_a_person_approved_is_not_called_a_pass_and_other_takes_are_beside_it(browser, tmp_path):
    folder = tmp_path / "out"
    (folder / "videos").mkdir(parents=True)
    rows = list(made_rows(str(folder)))[:3]
    rows[0] |= {"qc_status": "pass", "qc_reasons": ["flicker_high"], "qc_messages": ["it flickers"], "take": 2}
    rows[0] |= {"review": "approved", "review_comment": "on purpose", "takes": 2}
    other = rows[0] | {"take": 1, "uri": f"{folder}/videos/first.mp4", "qc_status": "fail", "delivered": False}
    write_table(RowSpool([rows[0] | {"delivered": True}, other]), str(folder), name="takes.parquet")
    uri, _ = write_report(str(folder), rows, {"run": "r1", "state": "finished"})
    browser.errors.clear()
    browser.open(f"file://{uri}")
    browser.run("state.sort = 'row', refresh()")
    assert text(browser, "tr[data-clip] .verdict") == "✓ approved by a person"
    assert "approved by a person1" in text(browser, "#totals")
    click(browser, "tr[data-clip] .open")
    assert "it flickers" in text(browser, "#p-body")
    assert browser.run("document.querySelector('.takes video').getAttribute('src')") == "videos/first.mp4"
    assert "take 1: ✕ fail (flicker_high)" in text(browser, ".takes")
    browser.key("Escape")


def luminance(colour):
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_in_light_and_dark(page, report, scheme):
    page.resize(1280, 900, scheme=scheme)
    page.open(f"file://{report[0].replace(' ', '%20')}")
    back = luminance(page.run("getComputedStyle(document.body).backgroundColor"))
    assert (back < 0.1) == (scheme == "dark")
    choose(page, "quality", "fail")
    for selector in ("body", "#subtitle", ".verdict.v-fail", "td .open", ".said"):
        ink = luminance(page.run(f"getComputedStyle(document.querySelector({json.dumps(selector)})).color"))
        contrast = (max(ink, back) + 0.05) / (min(ink, back) + 0.05)
        assert contrast >= 4.5, (selector, contrast)  # WCAG 2.2, 1.4.3


@pytest.mark.slow
def test_on_a_phone_nothing_is_wider_than_the_screen(page):
    page.resize(390, 844, phone=True)
    assert page.run("document.documentElement.scrollWidth") <= 390
    click(page, "tr[data-clip] .open")
    assert page.run("document.querySelector('#panel').scrollWidth") <= 390


@pytest.mark.slow
def test_filters_say_in_words_what_they_show_and_how_many_clips(page):
    options = page.run(
        "[...document.querySelectorAll('#filters select')].map(s => [...s.options].map(o => o.textContent))"
    )
    by_name = {found[1].split(":")[0]: found for found in options}
    assert by_name["not reviewed"][1] == "not reviewed: 2,969 clips"  # those that are done
    assert "Korean (ko): 750 clips" in by_name["German (de)"]
    assert "market: France: 1,000 clips" in by_name["market"]
    assert "needs a look" in by_name["failed"][2]
    assert any("face not found: 31 clips" in found for found in options)
    choose(page, "language", "ko")
    choose(page, "quality", "review")
    choose(page, "text", "clip-01")
    told = text(page, "#count").partition(": ")[2]
    assert (
        told
        == "with “clip-01” in their id, speaker, findings or own columns; quality control: needs a look; in Korean (ko)"
    )
    names = {
        (node["role"]["value"], node["name"]["value"])
        for node in page.command("Accessibility.getFullAXTree")["nodes"]
        if not node["ignored"] and node.get("name", {}).get("value")
    }
    for name in ("Review", "Quality control", "Status", "Finding or error", "Language", "Speaker", "Own columns"):
        assert ("combobox", name) in names
    assert {("searchbox", "Search"), ("search", "Filters of the list"), ("table", "Clips")} <= names
    click(page, "[data-view=grid]")
    first = page.run("document.querySelector('#grid .open').closest('[data-clip]').dataset.clip")
    tree = page.command("Accessibility.getFullAXTree")["nodes"]
    assert first in {node["name"]["value"] for node in tree if node.get("role", {}).get("value") == "button"}
    page.run("location.hash = 'own=not-json&clip=clip-00002'")  # an address is anybody's
    page.wait("document.querySelector('#panel').open")
    assert text(page, "#count").startswith("0 of 3,000 clips")
    page.key("Escape")


@pytest.mark.slow
def test_every_control_has_a_name(page):
    in_order(page)
    page.run("document.querySelector('#charts').open = true")
    page.wait("document.querySelectorAll('#histograms figure').length")
    click(page, "tr[data-clip] .open")
    nameless = page.run(
        "[...document.querySelectorAll('button, input, select, textarea, video, img, svg')].filter(e =>"
        "!(e.textContent.trim() || e.labels?.length || e.getAttribute('aria-label') || e.alt)).map(e => e.outerHTML)"
    )
    assert nameless == []


def test_what_it_writes_is_small_and_escaped(report):
    uri, size = report
    data = Path(uri).read_text("utf-8")
    assert size == os.path.getsize(uri) < 3.5e6 + CLIPS * 1500
    assert "<img src=x" not in data
    assert len(re.findall(r'id="d\d', data)) == 200 - len(range(5, 200, 97))  # those that are rejected
    sheets = data.count('type="text/plain"')
    assert 10 < sheets < 100
    assert len(LETTERS) == len(set(LETTERS)) == 64


@pytest.mark.slow
def test_the_command_writes_it_again_from_the_folder(rendered_demo, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(rendered_demo.output, out)
    assert "report.html" in rendered_demo.ended.stdout
    first = (out / "report.html").read_text()
    assert "UNTRAINED" in first
    (out / "report.html").unlink()
    (out / "clips.parquet").unlink()
    again = run_job("report", f"output={out}")
    assert again.returncode == 0, again.stderr
    assert (out / "report.html").read_text().count('id="d1"') == 1
    assert (out / "clips.parquet").exists()
    assert [f.column for f in METRICS if f.column in first] == [f.column for f in METRICS]


def test_where_no_run_has_begun_the_message_says_so(tmp_path):
    done = run_job("report", f"output={tmp_path}")
    assert done.returncode == 2
    assert "contains no run" in done.stderr
