"""All static pages in a real Chromium: on a phone, in the dark, for a keyboard and for a screen reader."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from models import EMOTIONS
from pipeline.common.errors import ClipError
from pipeline.evaluation.bootstrap import mean
from pipeline.evaluation.metrics import PAIR_METRICS
from pipeline.evaluation.page import Evaluation
from pipeline.evaluation.page import page as evaluation_page
from pipeline.evaluation.systems import means
from pipeline.evaluation.worst import to_picture, worst_pairs
from pipeline.manifest.clip import Clip
from pipeline.manifest.reader import Rejected
from pipeline.media.contact_sheet import comparison_sheet, jpeg
from pipeline.report.charts import dot_chart
from pipeline.report.html import made_now
from pipeline.report.preview_page import Preview, Previewed, write_preview
from pipeline.research.speech_encoders.page import page as encoders_page
from pipeline.research.study.ablations import Line, write_ablations
from pipeline.research.study.metric import Metric
from pipeline.research.study.report import write_report as write_study
from pipeline.research.study.run import Findings
from pipeline.training.curves import Curves
from pipeline.training_data.places import Places
from pipeline.training_data.report import Picked
from pipeline.training_data.report import write_report as write_prepared_report
from pipeline.training_data.summary import Counts
from pipeline.training_data.track import THUMBNAIL
from tests import chromium, media

PAGES = ("evaluation", "report", "curves", "study", "ablations", "encoders", "preview")
SPEAKERS = [f"speaker-{number:02}" for number in range(12)]
LONG = "s3://a-bucket-with-a-long-name/renders-of-the-night/2026-11-30/" + "sub-folder/" * 6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.NAME is None, reason="no Chromium here: apt-get install chromium"),
]


def face(shade):
    y, x = np.mgrid[:96, :96] / 96
    disc = np.hypot(x - 0.5, y - 0.5) < 0.3
    return np.where(disc[..., None], (230, 190, 160), (shade, 90, 160)).astype(np.uint8)


def write_evaluation(folder):
    """Three systems on twelve real videos, one of them better than the others in PSNR."""
    draw, rows = np.random.default_rng(0), []
    for name in SPEAKERS:
        hard = draw.normal(0, 3)  # videos differ by more than systems
        for place, system in enumerate(("floatcast", "earlier", "of somebody else with a long name")):
            row = {"row": len(rows) + 1, "system": system, "status": "done", "notes": []}
            row |= {"reference": f"{LONG}{name}.mp4", "generated": f"/renders/{place}/videos/{name}.mp4"}
            for metric in PAIR_METRICS:
                row[metric.column] = row[f"reference_{metric.column}"] = float(draw.normal(5, 1))
            row["psnr"] = 30 + hard - place + float(draw.normal(0, 0.1))
            rows.append(row | {"csim": None})
    rows.append({"row": 37, "system": "earlier", "reference": "a", "generated": "b", "status": "failed"})
    rows[-1] |= {"error_code": "video_unreadable", "error_message": "generated: " + LONG}
    results = list(means(rows, {"csim": "identity_model= was not given"}, 0))
    strips = {
        row["row"]: comparison_sheet({"real": [face(60)] * 6, "generated": [face(200)] * 6})
        for row in to_picture(worst_pairs(rows))
    }
    found = Evaluation(str(folder), rows, results, {"syncnet": "ab" * 32}, manifest=LONG + "pairs.csv", strips=strips)
    (folder / "evaluation.html").write_text(evaluation_page(found))


def write_prepared(folder):
    places, counts, picked = Places(str(folder), "r1"), Counts(), Picked()
    (folder / "tiles").mkdir()
    tiles = [Image.fromarray(face(10 * i)).resize((THUMBNAIL, THUMBNAIL)) for i in range(8)]
    strip = Image.fromarray(np.hstack([np.asarray(tile) for tile in tiles]))
    for number in range(24):
        row = dict.fromkeys(("speaker", "language", "emotion", "av_method", "found", "split"))
        row |= {"clip_id": f"film-{number}", "key": f"film-{number}", "source": f"{number}.mp4", "tile": number % 8}
        row |= {"start": 0.0, "end": 4.0, "frames": 100, "fps": 25.0, "status": "accepted", "reason": ""}
        row |= {"speaker": SPEAKERS[number % 12], "split": "train" if number % 12 else "test", "bytes": 1}
        if number % 5 == 4:
            row |= {"status": "dropped", "reason": "face_too_small"}
        (folder / "tiles" / f"film-{number}.jpg").write_bytes(jpeg(strip))
        counts.add(row)
        picked.add(row)
    write_prepared_report(places, counts, picked, [("source", LONG), ("videos", 24)])


def write_curves(folder):
    curves = Curves(str(folder), 0, [("data", LONG), ("began with", "pocket, hash 0123456789ab")])
    for step in range(1, 101):
        curves.add(step, {"train/loss": 1 / step, "validation/loss": 1.2 / step, "train/gradient_norm": 3.0})
    curves.picture(100, comparison_sheet({"held out": [face(20 * i) for i in range(8)]}))
    curves.close()


def metric(key, text, values, **more):
    return Metric(key, text, mean(np.asarray(values, float), SPEAKERS), **more)


def motion(shift):
    """Metrics of one line: speakers differ by more than lines do."""
    hard = np.random.default_rng(1).normal(0, 0.2, 12)
    noise = np.random.default_rng(50 + int(100 * shift)).normal(0, 0.01, 12)
    return [
        metric("jaw.correlation", "jawOpen against the real video: correlation", 0.5 + hard + shift + noise,
               better="higher"),
        metric("head.range", "spread of the head's motion relative to the truth", 1 + hard + noise),
    ]  # fmt: skip


def write_study_pages(folder, model):
    found = Findings(motion(0.1), [("Held-out speakers", comparison_sheet({"source": [face(60)] * 8}))])
    found.plots = [dot_chart("Means", [one.estimate.dot(one.key) for one in found.metrics])]
    found.tables = [
        ("Worst clips by landmarks", [["clip", "speaker", "correlation", "best lag"], ["a", "b", "1", "2"]])
    ]
    found.notes = ["NOTE: something could not be measured"]
    write_study(found, model, str(folder), {"settings": {"data": LONG, "seed": 0}})
    lines = [Line("pocket", name, motion(shift)) for name, shift in (("nfe 10", 0.0), ("nfe 4", 0.1), ("nfe 1", -0.2))]
    write_ablations(lines, [], str(folder), {"settings": {"data": LONG, "seed": 0}})


def write_encoders(folder):
    one = {"speakers": 4, "clips": 40, "frame_accuracy": 0.8, "frame_accuracy_interval": [0.7, 0.9]}
    one |= {"phoneme_error_rate": 0.2, "phoneme_error_rate_interval": [0.1, 0.3]}
    content = {"all": one, "languages": {"en": one}, "voices": {"kokoro": one}, "probe": one, "probe_untrained": one}
    said = {"file": "a.wav", "text": "Good evening", "heard": "gʊd ivnŋ " * 20, "phoneme_error_rate": 0.1}
    said |= {"phoneme_error_rate_shuffled": 0.9, "shuffled_as_good": 0.0}
    emotion = {"emotions": EMOTIONS, "confusion": np.eye(7, dtype=int).tolist(), "accuracy": 1.0, "chance": 1 / 7}
    emotion |= {"accuracy_interval": [0.9, 1.0], "clips": 40, "speakers": 4}
    values = {"corpus_note": "A note.", "settings": {"seed": 0}, "emotion": emotion, "people": [said]}
    values |= {"content": content | {"most_frequent": one | {"letter": "ə"}}}
    values |= {"new_sentences": {"voices": 4, "phoneme_error_rate": 0.3}}
    points = [(step, "content/loss", 1 / step) for step in range(1, 50)]
    (folder / "encoders.html").write_text(encoders_page(values, points, LONG))


def write_previewed(folder):
    """A clip that is done, one that was rejected, and a row that cannot be read."""
    (folder / "videos").mkdir()
    (folder / "videos" / "a.mp4").write_bytes(media.mp4(None, pictures=5))
    clip = Clip(1, "episode-12-" + "long-" * 8, LONG + "face.png", LONG + "voice.wav", None, 0, 10, 2, 1, 1, "auto")
    done = {"status": "done", "uri": f"{folder}/videos/a.mp4", "nfe": 4, "duration": 3.0, "audio_duration": 12.5}
    done |= {"qc_status": "review", "qc_messages": ["lip_lag_ms is 307.4 ms, above 100: watch the clip"]}
    gone = {"status": "rejected", "error_code": "input_not_found", "error_message": LONG + " does not exist", "nfe": 4}
    error = ClipError("value_invalid", "row 3, column emotion: 'jolly' is not one of angry")
    preview = Preview(
        output=str(folder),
        clips=[Previewed(row, replace(clip, speaker="anna"), "language de (40 rows)") for row in (done, gone)],
        preset="prores_422_hq",
        told="2 of 40 clips",
        estimate=[("clips", "40"), ("audio", "about 2.5 hours"), ("render", "0.25 GPU-hours")],
        remarks=["The rates are those of " + LONG],
        command="floatcast render manifest=" + LONG,
        rejected=[Rejected(3, "c", error, {})],
        rejected_rows=1,
        about=[("manifest", LONG), made_now()],
    )
    write_preview(preview)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("pages")
    write_evaluation(folder)
    write_prepared(folder)
    write_curves(folder)
    write_study_pages(folder, tiny_model)
    write_encoders(folder)
    write_previewed(folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    with chromium.Browser() as browser:
        yield browser


@pytest.fixture(params=PAGES)
def page(request, browser, folder):
    browser.errors.clear()
    browser.resize(1280, 900)
    browser.open(f"file://{folder}/{request.param}.html")
    yield browser
    assert browser.errors == []


UNREADABLE = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (...colours) => {  // one over another, as the screen shows them
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map((v) => v / 255).map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const grounds = (e) => e ? [...grounds(e.parentElement), getComputedStyle(e).backgroundColor] : [];
  const found = [];
  for (const e of document.body.querySelectorAll("*")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), behind = grounds(e), ink = e instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(paint(...behind, ink)), light(paint(...behind))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) found.push([e.tagName, e.className.baseVal ?? e.className, e.textContent.slice(0, 40), ratio]);
  }
  return found;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_is_readable_in_light_and_in_the_dark(page, scheme):
    page.resize(1280, 900, scheme=scheme)
    assert page.run("document.body.innerText.length") > 200
    dark = page.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert dark == (scheme == "dark")
    assert page.run(UNREADABLE) == []  # WCAG 2.2, 1.4.3


def test_on_a_phone_the_page_is_as_wide_as_the_screen_and_wide_tables_scroll_in_their_boxes(page):
    page.resize(390, 844, phone=True)
    assert page.run("document.documentElement.scrollWidth") <= 390
    outside = page.run(
        "[...document.querySelectorAll('h1, h2, h3, p, dd, dt, td, img, svg, video, figcaption')].filter(e =>"
        "!e.closest('.scroll') && e.getBoundingClientRect().right > 390.5).map(e => e.outerHTML.slice(0, 90))"
    )
    assert outside == []
    boxes = page.run(
        "[...document.querySelectorAll('.scroll')].map(e => [e.clientWidth, getComputedStyle(e).overflowX])"
    )
    assert boxes == [] or all(width <= 390 and overflow == "auto" for width, overflow in boxes)


def test_a_screen_reader_can_name_everything_and_a_keyboard_reach_it(page):
    tree = page.command("Accessibility.getFullAXTree")["nodes"]
    wanted = {"image", "table", "region", "link", "button", "Video"}
    nameless = [
        node["role"]["value"]
        for node in tree
        if not node["ignored"] and node["role"]["value"] in wanted and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    roles = [node["role"]["value"] for node in tree if not node["ignored"]]
    assert roles.count("main") == 1
    assert len([role for role in roles if role == "columnheader"]) >= 2 or "table" not in roles
    headings = page.run("[...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))")
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    boxes = page.run("document.querySelectorAll('.scroll').length")
    videos = page.run("document.querySelectorAll('video').length")
    for _ in range(boxes + 10 * videos):  # a video has buttons of its own
        page.key("Tab")
        if page.run("document.activeElement.classList.contains('scroll')"):
            break
    else:
        assert boxes == 0


def test_each_says_what_it_was_made_from_and_when(page):
    told = json.loads(page.run("JSON.stringify([...document.querySelectorAll('.facts dt')].map(e => e.textContent))"))
    assert {"made"} < set(told)
    assert {"manifest", "source", "data", "corpus"} & set(told)
    assert LONG.split("/")[3] in page.run("document.querySelector('.facts').textContent")


def test_the_evaluation_marks_a_system_that_is_better_beyond_chance_and_shows_the_worst_pairs(browser, folder):
    browser.open(f"file://{folder}/evaluation.html")
    best = "[...document.querySelectorAll('tr strong.best')].map(e => e.closest('tr').cells[0].firstChild.textContent)"
    assert "PSNR" in browser.run(best)
    assert "SSIM" not in browser.run(best)  # noise
    text = browser.run("document.body.innerText")
    assert "earlier minus floatcast" in text
    assert "floatcast is better" in text
    assert "no difference beyond chance" in text
    pictures = browser.run("[...document.querySelectorAll('figure img')].map(e => [e.alt, e.naturalWidth])")
    assert len(pictures) == 6
    assert all(alt.startswith("Row ") and width > 500 for alt, width in pictures)


def test_ablations_mark_the_best_line_and_show_the_difference_from_the_first(browser, folder):
    browser.open(f"file://{folder}/ablations.html")
    told = browser.run("[...document.querySelectorAll('h3 + .scroll tbody tr')].map(row => row.cells[3].textContent)")
    assert told[:3] == ["", "the best", "worse"]
    assert told[3:] == ["", "no difference beyond chance", "no difference beyond chance"]
