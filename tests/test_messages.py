"""Every code has a real message here, and every message is one that a person can act on.

A new code needs a line in one of the tables of samples: what produces its message, from a folder to work in.
"""

import json
import re
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.flow import NfeExhaustedError, integrate
from pipeline.common.errors import CODES, ClipError, RefusedError
from pipeline.common.limits import Limits
from pipeline.common.notes import NOTES
from pipeline.face.detector import FaceDetector
from pipeline.face.pose_input import load_pose
from pipeline.ledger.ledger import WORKER_DIED
from pipeline.manifest.consent import check_consent
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.settings import ConsentSettings
from pipeline.media import mp4
from pipeline.render.clip_inputs import load_inputs
from pipeline.render.clip_job import ClipJob, interrupted
from pipeline.run.plan import MISSING
from pipeline.storage import trouble
from pipeline.storage.untrusted import read_input
from pipeline.training_data.reasons import REASONS
from tests import media
from tests.running import run_job

LONGEST = 300
"""Characters of a message, without its paths."""

INTERNAL = re.compile(
    r"\w+(Error|Exception|Warning)\b|Errno|Traceback|<class|<.* object| object at 0x|\bav\.|\b[bB]'|\bNone\b|\\x|"
    r"Invalid data found|cannot identify image|avcodec|libav|nan\b"
)
PATHS = re.compile(r"(?:s3:/|file:/)?/\S+")


def faults(message):
    """What is wrong with a message."""
    text = PATHS.sub("", message)
    if len(text) > LONGEST:
        yield f"{len(text)} characters"
    if found := INTERNAL.search(text):
        yield f"an internal word: {found[0]}"
    if not message.isprintable():
        yield "characters that are not seen"
    if not re.search(r"[:;] *\S+ \S+", text):
        yield "nothing that says what to do"
    if not re.match(r"[a-z'\"(/0-9]|[A-Z0-9]{2}", message):
        yield "a capital letter at its start"
    if message.rstrip() != message or message.endswith((".", ":", ";")):
        yield "an end that is none"


# --- Samples ---------------------------------------------------------------------------------------------------


def raised(action, *given, **more):
    """(code, message) of the ClipError that a call ends with."""
    with pytest.raises(ClipError) as caught:
        action(*given, **more)
    return caught.value.code, caught.value.message


def row(folder, *rows, consent=None, today=None, **values):
    """What the first rejected row of a manifest says."""
    rows = rows or [{"clip_id": "a", "image": "a.png", "audio": "a.wav"} | values]
    (folder / "m.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    manifest = read_manifest(str(folder / "m.jsonl"))
    if consent is not None:
        (folder / "r.csv").write_text("consent_ref,speaker,expires\nc-1,Anna,\nc-0,Anna,2020-12-31\n")
        manifest = check_consent(manifest, ConsentSettings(consent, str(folder / "r.csv")))
    error = manifest.rejected[0].error
    return error.code, error.message


def file(folder, name="a.wav", data=None, **limits):
    if data is not None:
        (folder / name).write_bytes(data)
    return raised(read_input, str(folder / name), Limits(**limits))


def inputs(folder, image=None, audio=None, crop="auto", **limits):
    """What is said of a clip's files."""
    (folder / "a.png").write_bytes(media.PORTRAIT.read_bytes() if image is None else image)
    (folder / "a.wav").write_bytes(media.wav(media.tone()) if audio is None else audio)
    (folder / "m.jsonl").write_text(json.dumps({"image": "a.png", "audio": "a.wav", "crop": crop}))
    clip = read_manifest(str(folder / "m.jsonl")).clips[0]
    return raised(load_inputs, clip, Limits(**limits), 32, 128)


def pose(data, name="a.csv", frames=25, **limits):
    return raised(load_pose, data, name, frames, Limits(**limits), FaceDetector())


def worker(error):
    """What a render worker says of an error of the model."""
    job = ClipJob(SimpleNamespace(clip=CLIP))
    job.fail(error)
    row = job.ended.result()
    return row["error_code"], row["error_message"]


def exhausted():
    """What the adaptive solver says of a field that it cannot follow."""
    with pytest.raises(NfeExhaustedError) as caught:
        integrate(lambda x, t: 1e3 * torch.sin(1e3 * (x + t.view(-1, 1))), torch.ones(1, 2), nfe=7, solver="dopri5")
    return caught.value


def encoder(error):
    return "encode_failed", mp4._why(error)


def verified(folder):
    """A file with other frames than were rendered."""
    (folder / "v.mp4").write_bytes(media.mp4(media.tone(rate=48_000), pictures=5))
    return raised(mp4.verify_mp4, folder / "v.mp4", frames=9, fps=Fraction(25))


def silent_pixels(side):
    return media.picture(np.full((side, side, 3), 128, np.uint8))


def with_nan():
    sound = media.tone().copy()
    sound[:, 5] = np.nan
    return media.wav(sound, kind="f32")


CLIP = None


@pytest.fixture(autouse=True)
def clip(tmp_path):
    global CLIP
    (tmp_path / "clip.jsonl").write_text('{"image": "a.png", "audio": "a.wav"}')
    CLIP = read_manifest(str(tmp_path / "clip.jsonl")).clips[0]


SAMPLES = {
    "row_unreadable": lambda folder: row(folder, {"image": "a", "audio": "b"}, "text"),
    "value_missing": lambda folder: row(folder, audio=None),
    "value_invalid": lambda folder: row(folder, seed="x" * 500),
    "clip_id_invalid": lambda folder: row(folder, clip_id="a/b\n"),
    "clip_id_duplicate": lambda folder: row(folder, *[{"clip_id": "a", "image": "a", "audio": "b"}] * 2),
    "uri_not_allowed": lambda folder: raised(read_input, "http://host/a.wav", Limits()),
    "input_not_found": lambda folder: file(folder),
    "input_empty": lambda folder: file(folder, data=b""),
    "input_too_large": lambda folder: file(folder, data=b"12", max_file_megabytes=1e-6),
    "storage_error": lambda folder: (
        "storage_error",
        f"/a/b.wav could not be read: {trouble.reason(OSError(5, 'I/O'))}",
    ),
    "consent_missing": lambda folder: row(folder, speaker="Anna", consent=["Anna"]),
    "consent_unknown": lambda folder: row(folder, speaker="Anna", consent_ref="c-9", consent=["Anna"]),
    "consent_unclear": lambda folder: row(folder, speaker="\u0410nna", consent=["Anna"]),
    "consent_expired": lambda folder: row(folder, speaker="Anna", consent_ref="c-0", consent=["Anna"]),
    "image_unreadable": lambda folder: inputs(folder, image=media.TEXT),
    "image_too_small": lambda folder: inputs(folder, image=silent_pixels(8)),
    "image_too_large": lambda folder: inputs(folder, image=media.huge_png()),
    "image_not_square": lambda folder: inputs(folder, image=media.picture(media.colours()), crop="none"),
    "face_not_found": lambda folder: inputs(folder, image=silent_pixels(128)),
    "audio_unreadable": lambda folder: inputs(folder, audio=media.TEXT),
    "audio_no_stream": lambda folder: inputs(folder, audio=media.mp4(None, pictures=3)),
    "audio_truncated": lambda folder: inputs(folder, audio=media.cut(media.wav(media.tone()), 0.5)),
    "audio_empty": lambda folder: inputs(folder, audio=media.wav(media.tone()[:, :0])),
    "audio_too_short": lambda folder: inputs(folder, audio=media.wav(media.tone(seconds=0.02))),
    "audio_too_long": lambda folder: inputs(folder, max_audio_minutes=0.001),
    "audio_silent": lambda folder: inputs(folder, audio=media.wav(np.zeros((1, 16_000), np.float32))),
    "audio_not_finite": lambda folder: inputs(folder, audio=with_nan()),
    "audio_too_loud": lambda folder: inputs(folder, audio=media.wav(media.tone() * 30_000, kind="f32")),
    "pose_unreadable": lambda folder: pose(b"yaw,pitch\n1,2\n"),
    "pose_too_large": lambda folder: pose(b"0,0,0,0,0,1\n" * 100, max_audio_minutes=0.01),
    "pose_too_short": lambda folder: pose(b"0,0,0,0,0,1\n" * 5, frames=100),
    "nfe_exhausted": lambda folder: worker(exhausted()),
    "encode_failed": lambda folder: encoder(OSError(28, "No space left on device")),
    "verify_failed": verified,
    "out_of_memory": lambda folder: worker(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")),
    "worker_died": lambda folder: ("worker_died", WORKER_DIED.format(stage="the render", clip_id="a")),
    "interrupted": lambda folder: (interrupted().code, interrupted().message),
    "stopped": lambda folder: ("stopped", MISSING["stopped"]),
    "lost": lambda folder: ("lost", MISSING["lost"]),
}
"""Code -> (code, message) as a producer sees it."""

ELSEWHERE = {
    "video_unreadable": "tests of evaluation and of prepare: films are given, not clips",
    "video_too_long": "the same",
    "signing_failed": "tests/pipeline/media/test_c2pa.py; it needs a package that may be absent",
    "video_lost": "tests/jobs/test_damage.py; it needs a run",
    "timed_out": "tests/pipeline/render/test_engine.py",
    "internal_error": "a bug, whose message is for its report",
}
"""Codes whose messages need more than this file has, and where they are made."""


def test_every_code_has_a_sample():
    assert set(SAMPLES) | set(ELSEWHERE) == set(CODES)
    assert not set(SAMPLES) & set(ELSEWHERE)


@pytest.mark.parametrize("code", SAMPLES)
def test_a_message_says_what_was_found_and_what_to_do(code, tmp_path):
    found, message = SAMPLES[code](tmp_path)
    assert (found, list(faults(message))) == (code, []), message


@pytest.mark.parametrize(
    "texts",
    [{code: text for code, (_, text) in CODES.items()}, {code: text for code, (_, text) in NOTES.items()}, REASONS],
)
def test_meanings_are_short_and_in_words(texts):
    bad = {code: text for code, text in texts.items() if set(faults(f"x: {text} y")) - {"an end that is none"}}
    assert not bad


# --- Errors of the storage, whose libraries speak their own language -------------------------------------------

STORAGE = [
    *(OSError(number, "raw") for number in (5, 13, 21, 20, 22, 28, 30, 36, 122)),
    FileNotFoundError("a"),
    ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 9)"),
    *(TimeoutError(), BrokenPipeError(32, "Broken pipe")),
    *(trouble.NoCredentialsError(), trouble.PartialCredentialsError(provider="env", cred_var="x")),
    *(trouble.ClientError({"Error": {"Code": code}}, "GetObject") for code in (*trouble.CODES, "SomethingNew")),
]


@pytest.mark.parametrize("error", STORAGE, ids=repr)
def test_the_storage_speaks_plainly(error):
    assert list(faults(f"/a/b could not be read: {trouble.reason(error)}")) == []


# --- Refusals --------------------------------------------------------------------------------------------------

TABLES = {
    "empty.jsonl": b"",
    "header.csv": b"image,audio\n",
    "column.csv": b"image,sound\na.png,b.wav\n",
    "table.xlsx": b"x",
    "broken.parquet": b"x",
    "latin.csv": "image,audio\né,b\n".encode("latin-1"),
    "nul.csv": b"image,audio\na\0,b\n",
    "none.csv": None,
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_refused_is_refused_in_words(name, tmp_path):
    if TABLES[name] is not None:
        (tmp_path / name).write_bytes(TABLES[name])
    try:
        manifest = read_manifest(str(tmp_path / name))
    except RefusedError as error:
        messages = [str(error)]
    else:
        messages = [one.error.message for one in manifest.rejected]
    assert {message: list(faults(message)) for message in messages if list(faults(message))} == {}


SETTINGS = [
    *("seed=1", "outptu=x", "video.crf=900", "render.solver=magic", "limits.input_prefixes=[dub]", "limit=-1"),
    *("shard=9/8", "only=nobody", "config=none.yaml", "consent.register=r.csv", "qc.thresholds=[x]", "video.fps=-1"),
    *("manifest=none.csv", "model=none", "qc.syncnet=none", "provenance.certificate=c.pem", "qc.max_takes=x"),
    *("output=s3://user:secret@bucket/x", "consent.speakers=[Anna]", "defaults.nfe=-3", "video.preset=none"),
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_is_refused_names_its_key_and_what_is_allowed(setting, tmp_path):
    (tmp_path / "m.csv").write_text(f"image,audio\n{media.PORTRAIT},{media.SPEECH}\n")
    given = ["manifest=m.csv", "output=out", setting]
    done = run_job("render", "--dry-run", *given, "executor=serial", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    message = done.stderr.strip().removeprefix("error: ")
    message, _, listed = message.partition("; the metrics are ")  # a list of all that is allowed may be long
    assert list(faults(message)) == [], message + listed
    key = setting.partition("=")[0]
    assert key in message or key.rsplit(".", 1)[-1] in message


@pytest.mark.parametrize(
    "bad", ["FileNotFoundError: x", "[Errno 2] x: y z", "no advice", "Capital: do it", "a\u200bb: do it", "x: y" * 200]
)
def test_the_rules_see_what_is_wrong(bad):
    assert list(faults(bad))
