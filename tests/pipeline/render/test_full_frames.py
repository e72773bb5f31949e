"""Full frames as they are delivered: the demo's portraits in pictures of all kinds, rendered by the bundled model."""

import io
import json
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from models.pixels import to_tensor
from pipeline.api.model import open_model
from pipeline.common.limits import Limits
from pipeline.face.full_frame import mask
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.media.image import load_image
from pipeline.media.pixel_layout import YUV420P
from pipeline.media.planes import to_planes
from pipeline.media.settings import VideoSettings
from pipeline.media.xmp import read_mark
from pipeline.qc.settings import QcSettings
from pipeline.qc.stage import QcStage
from pipeline.render.engine import Engine
from pipeline.render.feature_stage import FeatureStage
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.storage.uris import local_path
from tests import media
from tests.running import results

SECONDS = 0.48

pytestmark = pytest.mark.slow


def ground(width, height):
    """Broad waves of colour with some grain, (H,W,3) uint8."""
    y, x = np.mgrid[:height, :width]
    waves = np.sin(x / 97)[..., None] * [30, 20, 5] + np.cos((x + 2 * y) / 131)[..., None] * [10, 25, 30]
    grain = np.random.default_rng(1).normal(0, 3, (height, width, 1))
    return (120 + waves + grain).clip(0, 255).astype(np.uint8)


def pasted(width, height, *portraits):
    """A picture with portraits: (name, left, top, side)."""
    picture = Image.fromarray(ground(width, height))
    for name, left, top, side in portraits:
        with Image.open(media.DEMO / f"portrait_{name}.png") as portrait:
            picture.paste(portrait.resize((side, side), Image.Resampling.LANCZOS), (left, top))
    return picture


def model_side():
    """Pixels of a side of the bundled model's frames."""
    return open_model("pocket").folder.config.image_size


def png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def lying(picture):
    """The picture on its side, as JPEG with the tag that says so."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # turn clockwise to view
    picture.transpose(Image.Transpose.ROTATE_90).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


PICTURES = {
    "wide": lambda: png(pasted(1920, 1080, ("2016", 700, 300, 360))),
    "tall": lambda: png(pasted(1080, 1920, ("2017", 300, 500, 400))),
    "border": lambda: png(pasted(641, 483, ("2011", -20, 483 - 260, 260))),
    "turned": lambda: lying(pasted(640, 480, ("2022", 220, 120, 260))),
    "two": lambda: png(pasted(800, 600, ("2022", 60, 200, 320), ("2016", 500, 250, 220))),
}
EXPECTED = {"wide": (1920, 1080), "tall": (1080, 1920), "border": (640, 482), "turned": (640, 480), "two": (800, 600)}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of all pictures, delivered without loss and judged."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "a.wav").write_bytes(media.wav(media.speech()[0][:, 8_000 : 8_000 + int(16_000 * SECONDS)]))
    lines = []
    for name, make in PICTURES.items():
        (folder / name).write_bytes(make())
        lines.append({"clip_id": name, "image": name, "audio": "a.wav", "frame": "full", "seed": 6})
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    video, model = media.lossless(), open_model("pocket").folder
    clips = list(read_manifest(str(folder / "m.jsonl"), video=video).clips)
    features = results(FeatureStage(str(model.path), FeatureSettings(), Limits(), video), clips)
    ledger = Ledger(str(folder / "out"))
    engine = Engine(model, EngineSettings(mode="eager"), video, ledger)
    done = list(engine.process(features))
    engine.close()
    return {row["clip_id"]: row for row in results(QcStage(QcSettings(), Limits(), video, ledger, 2.0), done)}


@pytest.mark.parametrize("name", PICTURES)
def test_outside_of_the_mask_the_delivery_is_the_picture(rows, name):
    row = rows[name]
    assert row["status"] == "done", row
    assert (row["width"], row["height"]) == EXPECTED[name]
    source = load_image(PICTURES[name](), Limits())[: row["height"], : row["width"]].copy()
    own = YUV420P.split(to_planes(to_tensor(source), YUV420P)[0].numpy())
    frames = media.planes(row["uri"])
    assert len(frames) == row["frames"] == SECONDS * 25
    for frame in frames[[0, -1]]:
        for number, (plane, expected) in enumerate(zip(YUV420P.split(frame), own, strict=True)):
            step, down = (2, 1.0) if number else (1, 0.5)
            x, y = np.arange(0, row["width"], step) + 0.5, np.arange(0, row["height"], step) + down
            weight = mask(x, y[:, None], tuple(row["square"]))
            assert (plane[weight == 0] == expected[weight == 0]).all()
            assert (plane[weight > 0.9] != expected[weight > 0.9]).mean() > 0.4


@pytest.mark.parametrize("name", PICTURES)
def test_no_seam_is_seen_and_the_face_is_judged_as_in_a_crop(rows, name):
    row = rows[name]
    assert row["qc_seam_visibility"] <= 1.1
    assert row["qc_rim_motion"] is None or row["qc_rim_motion"] < 0.015
    assert row["qc_upscale"] == row["upscale"] == pytest.approx(row["square"][2] / model_side(), abs=1e-2)
    assert row["qc_face_share"] == 1
    assert 0.4 < row["qc_face_size"] < 0.75
    assert row["qc_face_offset"] < 0.15
    assert row["qc_frozen_seconds"] == 0
    assert row["qc_drift_deg"] is None or row["qc_drift_deg"] < 15


def test_the_largest_of_two_people_speaks_and_the_other_stays(rows):
    row = rows["two"]
    left, _, side = row["square"]
    assert row["faces_found"] == 2
    assert left + side < 480  # the other one is right of it


@pytest.mark.parametrize(("name", "tile"), [("wide", (320, 180)), ("tall", (180, 320))])
def test_the_contact_sheet_has_whole_pictures_and_the_edge_of_the_mask(rows, name, tile):
    row = rows[name]
    output = local_path(row["uri"]).rpartition("/videos/")[0]
    known = Ledger(output).read_qc(name, row["fingerprint"])
    assert known["sheet_tile"] == list(tile)
    assert sum(label.startswith("edge of the mask ") for label in known["sheet_labels"]) == 1
    with Image.open(f"{output}/qc/{name}.{row['fingerprint']}.jpg") as sheet:
        assert sheet.size == (tile[0] * len(known["sheet_labels"]), tile[1])


def test_the_mark_names_the_picture(rows):
    row = rows["wide"]
    assert read_mark(local_path(row["uri"]))["source"] == f"urn:sha256:{row['source_sha256']}"
    assert len(row["source_sha256"]) == 64


def test_a_scaled_frame_with_bars_has_its_exact_size(rows, tmp_path):
    """Also at another frame rate, and beside a clip that is the square."""
    (tmp_path / "a.wav").write_bytes(media.wav(media.speech()[0][:, 8_000:12_000]))
    (tmp_path / "two").write_bytes(PICTURES["two"]())
    lines = [{"clip_id": kind, "image": "two", "audio": "a.wav", "frame": kind} for kind in ("full", "crop")]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    video = VideoSettings(width=322, height=322, fit="pad", fps="30")
    model = open_model("pocket").folder
    clips = list(read_manifest(str(tmp_path / "m.jsonl"), video=video).clips)
    features = results(FeatureStage(str(model.path), FeatureSettings(), Limits(), video), clips)
    engine = Engine(model, EngineSettings(mode="eager"), video, Ledger(str(tmp_path / "out")))
    sizes = {}
    for row in engine.process(features):
        assert row["status"] == "done", row
        sizes[row["clip_id"]] = row["width"], row["height"]
        assert row["fps"] == Fraction(30)
    engine.close()
    assert sizes == {"full": (322, 322), "crop": (model_side(),) * 2}
