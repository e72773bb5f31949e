"""The rows about dialogue that the guide gives, rendered by the bundled model: two faces, each with its own sound."""

import io
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.face.full_frame import mask
from pipeline.media.pixel_layout import YUV420P
from tests import media
from tests.pipeline.render.test_full_frames import pasted
from tests.running import run_job

GUIDE = Path(__file__).parents[2] / "jobs" / "README.md"
REGISTER = "consent_ref,speaker,expires\nc-1,Anna,\nc-2,Ben,\n"

pytestmark = pytest.mark.slow


def documented():
    """The manifest of the guide, as it stands there."""
    return re.search(r"^### Dialogue$.*?^```json\n(.*?)^```$", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE)[1]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Its rows in clips.parquet, by clip_id."""
    folder = tmp_path_factory.mktemp("dialogue")
    samples, rate = media.speech()
    (folder / "anna.wav").write_bytes(media.wav(samples[:, 8_000:24_000]))
    (folder / "ben.wav").write_bytes(media.wav(np.tile(samples[:, 20_000:32_000], (2, 1)), rate))
    picture = io.BytesIO()
    pasted(640, 360, ("2022", 20, 40, 280), ("2016", 330, 60, 260)).save(picture, "PNG")
    (folder / "two.png").write_bytes(picture.getvalue())
    (folder / "clips.jsonl").write_text(documented())
    (folder / "register.csv").write_text(REGISTER)
    consent = ["consent.speakers=['Anna']", f"consent.register={folder}/register.csv"]
    common = [f"output={folder}/out", "executor=serial", "qc.dlib_distance=never", "video.crf=12"]
    first = run_job("render", f"manifest={folder}/clips.jsonl", *common, *consent, "only=by-place")
    assert first.returncode == 1, first.stdout + first.stderr  # who speaks is unclear in the others
    assert run_job("render", f"manifest={folder}/clips.jsonl", *common).returncode == 0
    return {row["clip_id"]: row for row in pq.read_table(folder / "out" / "clips.parquet").to_pylist()}


def changes(row, square):
    """Mean change of luma per frame (frames-1,) within the core of a square."""
    frames = [YUV420P.split(frame)[0].astype(np.float32) for frame in media.planes(row["uri"])]
    y, x = np.mgrid[: row["height"], : row["width"]] + 0.5
    core = mask(x, y, tuple(square)) == 1
    return np.array([np.abs(after - before)[core].mean() for before, after in pairwise(frames)])


def test_the_rows_of_the_guide_are_rendered_as_they_stand_there(rows):
    assert set(rows) == {"talk", "listening", "by-place"}
    for row in rows.values():
        assert row["status"] == "done", row
        assert (row["width"], row["height"], row["frames"]) == (640, 360, 25 if row["clip_id"] != "listening" else 19)
        assert row["qc_status"] in ("pass", "review"), row["qc_messages"]
        assert row["qc_frames_missing"] == row["qc_format_faults"] == 0
        assert row["qc_loudness_error_lu"] is None or row["qc_loudness_error_lu"] < 0.5
        assert row["audio"] is row["face_box"] is row["square"] is None
    assert [face["face"] for face in json.loads(rows["by-place"]["faces"])] == ["160,180", "390,110,529,272"]
    boxes = [json.loads(rows[name]["faces_animated"]) for name in ("talk", "by-place")]
    assert [face["box"] for face in boxes[0]] == [face["box"] for face in boxes[1]]
    assert [face["seed"] for name in rows for face in json.loads(rows[name]["faces_animated"])].count(3) == 1


def test_both_faces_move_and_all_around_them_is_the_picture(rows):
    row = rows["talk"]
    squares = [face["square"] for face in json.loads(row["faces_animated"])]
    for square in squares:
        assert changes(row, square).mean() > 0.3
    frames = [YUV420P.split(frame)[0] for frame in media.planes(row["uri"])]
    y, x = np.mgrid[:360, :640] + 0.5
    around = sum(mask(x, y, tuple(square)) for square in squares) == 0
    picture = np.asarray(Image.open(row["image"]).convert("RGB"), np.float32)
    luma = 16 + 219 / 255 * (picture @ np.array([0.2126, 0.7152, 0.0722], np.float32))
    assert np.abs(frames[-1].astype(np.float32) - luma)[around].mean() < 2


def test_the_same_face_with_the_same_seed_and_sound_moves_alike_whoever_is_beside_it(rows):
    """Anna, of two rows with other seeds for her, moves differently; Ben has the seed 1 in both."""
    talk, places = rows["talk"], rows["by-place"]
    anna, ben = (face["square"] for face in json.loads(talk["faces_animated"]))
    frames = [np.stack([YUV420P.split(frame)[0] for frame in media.planes(row["uri"])]) for row in (talk, places)]
    apart = np.abs(frames[0].astype(np.float32) - frames[1])
    y, x = np.mgrid[:360, :640] + 0.5
    assert apart[:, mask(x, y, tuple(anna)) == 1].mean() > 1
    assert apart[:, mask(x, y, tuple(ben)) == 1].mean() < 0.5


def test_each_face_is_judged_by_its_own_sound_and_the_listener_has_none(rows):
    row = rows["listening"]
    listener, speaker = json.loads(row["qc_faces"])
    assert listener["qc_pause_motion"] is listener["qc_lip_correlation"] is None
    assert listener["qc_face_share"] == speaker["qc_face_share"] == row["qc_face_share"] == 1
    assert row["qc_blur"] == max(listener["qc_blur"], speaker["qc_blur"])
    named = [message for message in row["qc_messages"] if message.startswith("faces[")]
    assert named, row["qc_messages"]  # 64 px enlarged to 260 px are blurred
