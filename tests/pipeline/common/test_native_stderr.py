"""A line of a native library is left out, and no other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.common.native_stderr import native_stderr_without


def test_only_the_lines_that_match_are_left_out(capfd):
    with native_stderr_without("^INFO: Created .* delegate"):
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: something else\n")
        os.write(2, b"without an end")
    os.write(2, b", and after it")
    assert capfd.readouterr().err == "ERROR: something else\nwithout an end, and after it"


def test_what_comes_while_it_fails_is_kept(capfd):
    def failing():
        with native_stderr_without("^INFO"):
            os.write(2, b"why\n")
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "why\nafter\n"


@pytest.mark.slow
def test_the_face_networks_say_nothing_of_their_own():
    code = "from pipeline.face.detector import FaceDetector; FaceDetector()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (done.returncode, done.stderr) == (0, "")
