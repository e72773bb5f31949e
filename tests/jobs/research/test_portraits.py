"""`python -m jobs.research.portraits` as a person runs it: pictures that the rest of the project takes."""

import sys

import numpy as np
import pytest
from PIL import Image

from pipeline.face.detector import FaceDetector
from pipeline.face.head_pose import pose_of
from pipeline.measure.face_track import LOWER_LIP, UPPER_LIP
from pipeline.research.corpus.mesh import anny_model
from pipeline.research.corpus.portrait import draw_portrait
from tests import media
from tests.running import run_job

DEMO = (2011, 2016, 2017, 2022)


@pytest.mark.parametrize("seed", DEMO)
def test_the_demos_portraits_show_one_calm_face_from_the_front(seed):
    [face] = FaceDetector().detect(np.asarray(Image.open(media.DEMO / f"portrait_{seed}.png")))
    pose = pose_of(face.landmarks)
    assert max(abs(pose.yaw), abs(pose.roll)) < 5  # degrees
    left, top, right, bottom = face.box
    assert abs(left + right - 512) < 50
    lips = np.linalg.norm(face.landmarks[UPPER_LIP, :2] - face.landmarks[LOWER_LIP, :2])
    assert lips < 0.04 * (bottom - top)  # closed, as far as the landmarks can tell


@pytest.mark.slow
@pytest.mark.usefixtures("opengl")
def test_a_seed_is_a_person(tmp_path):
    folder = tmp_path / "my portraits"
    done = run_job("research.portraits", f"output={folder}", "portraits.seeds=[2016, 2017]", "portraits.size=256")
    assert done.returncode == 0, done.stderr
    assert "wrote 2 portraits of 256 px" in done.stdout
    drawn = {seed: np.asarray(Image.open(folder / f"portrait_{seed}.png")).astype(int) for seed in (2016, 2017)}
    assert np.abs(drawn[2016] - drawn[2017]).mean() > 20  # of 255
    again = draw_portrait(2016, 256)
    assert np.array_equal(drawn[2016], again)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "output: give a folder"),
        (["output=x", "portraits.size=100"], "portraits.size: 100 is not one of 128, 256, 512"),
        (["output=x", "portraits.seeds=[-1]"], "portraits.seeds: give at least one seed, each from 0"),
        (["output=x", "portraits.seeds=[]"], "portraits.seeds: give at least one seed"),
    ],
)
def test_a_wrong_value_is_refused_by_name(arguments, problem):
    done = run_job("research.portraits", *arguments)
    assert done.returncode == 2
    assert problem in done.stderr


def test_a_missing_extra_is_reported_with_the_way_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "anny", None)
    for user in ("mesh", "head"):  # another test may have loaded it
        monkeypatch.setattr(f"pipeline.research.corpus.{user}.anny_model", anny_model.__wrapped__)
    done = run_job("research.portraits", f"output={tmp_path}")
    assert done.returncode == 2
    assert "pip install 'floatcast[corpus]'" in done.stderr
    assert "Traceback" not in done.stderr
