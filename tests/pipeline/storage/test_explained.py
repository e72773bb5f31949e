"""No exception reaches a person in the words of a library, and the place of a bug is named."""

import ast
import json
import re
from pathlib import Path

import av
import pytest
import torch
from ray.exceptions import RayActorError, RayTaskError

from models import FloatConfig
from pipeline.common.errors import ClipError, ClusterError, RefusedError, StorageError
from pipeline.manifest.values import Values
from pipeline.storage.explained import OURS, explained, said_by_us
from tests.messages import faults

PACKAGES = ("pipeline", "jobs", "models")


def caught(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError


ERRORS = {
    "a library in our code": lambda: Values("row 1", None).required("audio"),
    "a library alone": lambda: json.loads("{"),
    "FFmpeg": lambda: av.open("/nowhere.mp4"),
    "no memory": lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")),
    "a GPU": lambda: (_ for _ in ()).throw(RuntimeError("CUDA error: device-side assert triggered\nCompile with x")),
    "a package": lambda: __import__("no_such_package.part"),
    "Ray": lambda: (_ for _ in ()).throw(RayActorError()),
    "torch": lambda: torch.zeros(2) @ torch.zeros(3),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_a_library_raises_is_said_in_words(name):
    error = caught(ERRORS[name])
    message = f"render: {explained(error)}"
    assert list(faults(message)) == [], message
    assert str(error).splitlines()[0] not in message


def test_a_bug_is_named_by_its_place_in_our_code():
    message = explained(caught(ERRORS["a library in our code"]))
    assert re.search(r"this is a bug at pipeline/manifest/values\.py, line \d+: please report it", message)


def test_what_our_own_code_says_of_a_bug_is_kept():
    error = caught(lambda: FloatConfig.from_dict({"channels": 3}))
    assert said_by_us(error) == str(error) == "channels must be a list of numbers"
    assert explained(error).startswith(f"{error}; this is a bug at models/config.py, line ")


@pytest.mark.parametrize("kind", [RefusedError, StorageError, ClusterError, lambda text: ClipError("lost", text)])
def test_our_own_errors_speak_for_themselves_also_from_a_worker_of_ray(kind):
    error = kind("the table is empty: add a row")
    assert explained(error) == explained(RayTaskError("f", "Traceback ...", error)) == "the table is empty: add a row"


SPOKEN = {
    "ClipError",
    "RefusedError",
    "ManifestError",
    "StorageError",
    "ClusterError",
    "SettingError",
    "ConfigError",
    "UnusableError",
    "RefusedEventError",
    "UnreachableError",
}
ALLOWED = {
    "pipeline/face/pose_input.py": "media.npy and VideoError speak for themselves",
    "pipeline/training_data/known.py": "the same",
    "pipeline/training_data/source_video.py": "VideoError",
    "pipeline/evaluation/watch.py": "VideoError",
    "pipeline/evaluation/networks.py": "load_iresnet",
    "pipeline/measure/embedder.py": "load_iresnet",
    "pipeline/manifest/table_json.py": "parse_json",
    "pipeline/manifest/table_text.py": "compared with what the csv module says",
    "pipeline/manifest/rows.py": "ColumnError and values_of",
    "pipeline/manifest/settings.py": "parse_choice",
    "pipeline/api/model.py": "the same",
    "pipeline/manifest/spans.py": "the file's own rules",
    "pipeline/manifest/entries.py": "parse_json",
    "pipeline/manifest/row_reader.py": "stream_name, parse_timecode, poses_of and emotions_of",
    "pipeline/manifest/delivery.py": "of_text and given_in",
    "pipeline/manifest/clip.py": "check_nfe",
    "pipeline/manifest/dialogue.py": "of_text, given_in and parse_choice",
    "pipeline/manifest/silence.py": "silence_of",
    "pipeline/render/continuation.py": "unpacked",
    "pipeline/qc/review.py": "ColumnError",
    "pipeline/run/prepare_run.py": "choose_sampler",
    "pipeline/media/xmp.py": "read_mark",
    "pipeline/research/study/run.py": "StudyError",
    "pipeline/research/study/codes.py": "StudyError",
    "pipeline/research/study/speech.py": "StudyError",
    "pipeline/research/study/ablations.py": "ClipError",
    "pipeline/research/speech_encoders/voices.py": "an ImportError of ours, with the extra to install",
    "models/model_folder.py": "FloatConfig.from_dict, and the name of a key",
    "jobs/submit.py": "looks for the status of HTTP",
}
"""Files that pass the text of an exception on which is not of `SPOKEN`, and whose text it is: ours, each time."""


def passed_on(file):
    """Lines of a file with the text of a caught exception that is not one of ours."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.ExceptHandler) or node.name is None:
            continue
        kinds = {one.attr if isinstance(one, ast.Attribute) else one.id for one in ast.walk(node.type) if named(one)}
        if kinds and kinds <= SPOKEN | {"DamagedError", "ModelFolderError", "CacheError", "CacheFullError"}:
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.FormattedValue) and isinstance(inner.value, ast.Name):
                spoken = inner.value.id == node.name
            elif isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id in ("str", "repr"):
                spoken = [one.id for one in inner.args if isinstance(one, ast.Name)] == [node.name]
            else:
                spoken = False
            if spoken:
                yield f"{file.relative_to(OURS)}, line {inner.lineno}"


def named(node):
    return isinstance(node, ast.Name | ast.Attribute)


def test_no_file_passes_on_the_text_of_a_library():
    files = [file for package in PACKAGES for file in (Path(OURS) / package).rglob("*.py")]
    found = [line for file in files for line in passed_on(file)]
    assert [line for line in found if line.partition(",")[0] not in ALLOWED] == []
    assert ALLOWED.keys() - {line.partition(",")[0] for line in found} == set()
