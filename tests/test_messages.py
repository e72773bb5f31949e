"""Every code has a real message here, and every message is one that a person can act on.

A new code needs a line in one of the tables of samples: what produces its message, from a folder to work in.
"""

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.flow import NfeExhaustedError, integrate
from pipeline.common.errors import CODES, ClipError, RefusedError
from pipeline.common.limits import Limits
from pipeline.common.notes import NOTES
from pipeline.evaluation.watch import frames_of
from pipeline.face.detector import FaceDetector
from pipeline.face.full_frame import FrameSize, full_frame
from pipeline.face.pose_input import load_pose
from pipeline.ledger.clip_row import clip_row, error_row
from pipeline.ledger.ledger import WORKER_DIED, Ledger
from pipeline.manifest.consent import check_consent
from pipeline.manifest.emotion_spans import EmotionSpan
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.settings import ConsentSettings
from pipeline.manifest.silence import Pause
from pipeline.manifest.spans import check_length
from pipeline.media import encoders, mp4
from pipeline.media.budget import Budget
from pipeline.media.c2pa import Signer
from pipeline.media.settings import ProvenanceSettings, VideoSettings
from pipeline.render.clip_inputs import load_inputs
from pipeline.render.clip_job import ClipJob, interrupted
from pipeline.render.continuation import stored_ending
from pipeline.render.engine import Engine
from pipeline.render.feature_stage import FeatureStage
from pipeline.render.mouth_probe import check_faces
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.run.lost_videos import LostVideos
from pipeline.run.plan import MISSING
from pipeline.storage import trouble
from pipeline.storage.untrusted import read_input
from pipeline.training_data.reasons import REASONS
from tests import certificates, media
from tests.messages import faults
from tests.pipeline.render.test_portrait import FACE, OTHER, beside, png
from tests.running import results, run_job
from tests.tiny import CONFIG, save_tiny_model

# --- Samples ---------------------------------------------------------------------------------------------------


LATE = EmotionSpan(2.0, 4.0, {"happy": 1.0}, number=1)


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


def dialogue(folder, *faces):
    """What is said of a clip with these faces in one picture of two people."""
    (folder / "a.png").write_bytes(PAIR)
    entries = [{"face": face, "audio": "a.wav"} for face in faces]
    (folder / "m.jsonl").write_text(json.dumps({"clip_id": "a", "image": "a.png", "frame": "full", "faces": entries}))
    return raised(load_inputs, read_manifest(str(folder / "m.jsonl")).clips[0], Limits(), 32, VideoSettings())


def inputs(folder, image=None, audio=None, crop="auto", face=None, video=None, row=None, **limits):
    """What is said of a clip's files, of which `row` has further columns."""
    (folder / "a.png").write_bytes(media.PORTRAIT.read_bytes() if image is None else image)
    (folder / "a.wav").write_bytes(media.wav(media.tone()) if audio is None else audio)
    values = {"crop": crop, "face": face} | (row or {})
    (folder / "m.jsonl").write_text(json.dumps({"image": "a.png", "audio": "a.wav"} | values))
    clip = read_manifest(str(folder / "m.jsonl")).clips[0]
    return raised(load_inputs, clip, Limits(**limits), 32, video or VideoSettings())


def other_track(folder):
    """What is said of a further track that is longer than its clip."""
    (folder / "music.wav").write_bytes(media.wav(media.tone(seconds=3.0)))
    return inputs(folder, row={"audio_tracks": ["music.wav"]})


def no_encoder(folder):
    """What is said of a row whose preset has an encoder that does not open here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encoders, "_problem", lambda preset: "Unknown encoder")
        return raised(encoders.check_preset, VideoSettings(), "hevc")


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
    return raised(mp4.verify_video, folder / "v.mp4", frames=9, fps=Fraction(25))


def unsigned(folder):
    """What a signer says of a file that has gone."""
    signer = Signer(ProvenanceSettings(**certificates.identity().write(folder)))
    return raised(signer.sign, folder / "gone.mp4", clip_id="a", model="float", model_hash="0" * 64)


def late(folder):
    """What the engine says of a clip that takes longer than it may."""
    model, limits = save_tiny_model(folder / "model"), Limits()
    (folder / "a.wav").write_bytes(media.wav(media.tone()))
    (folder / "m.jsonl").write_text(json.dumps({"image": str(media.PORTRAIT), "audio": "a.wav"}))
    clips = read_manifest(str(folder / "m.jsonl")).clips
    video = media.lossless()
    features = results(FeatureStage(str(model.path), FeatureSettings(), limits, video), clips)
    settings = EngineSettings()
    engine = Engine(model, settings, video, Ledger(str(folder / "out")))
    settings.clip_minutes = 0.0
    return said_by(next(iter(engine.process(features))))


def lost_video(folder):
    """What the end of a run says of a clip whose video has gone."""
    row = clip_row(CLIP) | {"status": "done", "fingerprint": "0" * 12, "uri": str(folder / "videos" / "gone.mp4")}
    run = SimpleNamespace(tally=SimpleNamespace(statuses={"done": 1}), ledger=Ledger(str(folder)))
    return said_by(LostVideos(run).checked(row | {"bytes": 5}))


def lost_ending(folder):
    """What is said of a row of a programme if it cannot be read how the one before it ended."""
    ledger = Ledger(str(folder))
    ledger.write_motion("a", "0" * 12, b"damaged")
    return raised(stored_ending, ledger, "a", "0" * 12, CONFIG)


def film(folder, data, **limits):
    """What is said of a video that is to be measured."""
    (folder / "a.mp4").write_bytes(data)
    return raised(lambda: list(frames_of(folder / "a.mp4", Limits(**limits))))


def said_by(row):
    return row["error_code"], row["error_message"]


def failing(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError


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


PAIR = png(beside(FACE, OTHER))
ONE_LIES = png(beside(FACE, OTHER.rotate(180)))
TURNED = (Path(__file__).parent / "data" / "turned_60.jpg").read_bytes()

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
    "frame_size_invalid": lambda folder: raised(
        full_frame, np.zeros((3000, 4000, 3), np.uint8), (0.0, 0.0, 9.0, 9.0), FrameSize()
    ),
    "face_not_found": lambda folder: inputs(folder, image=silent_pixels(128)),
    "face_not_there": lambda folder: inputs(folder, image=PAIR, face=3),
    "several_faces": lambda folder: inputs(folder, image=PAIR, face="only"),
    "face_named_twice": lambda folder: dialogue(folder, 1, "50,60"),
    "face_not_upright": lambda folder: inputs(folder, image=ONE_LIES, face="260,80"),
    "face_in_profile": lambda folder: inputs(folder, image=TURNED),
    "audio_unreadable": lambda folder: inputs(folder, audio=media.TEXT),
    "audio_no_stream": lambda folder: inputs(folder, audio=media.mp4(None, pictures=3)),
    "audio_stream_not_there": lambda folder: inputs(folder, row={"audio_stream": 2}),
    "audio_truncated": lambda folder: inputs(folder, audio=media.cut(media.wav(media.tone()), 0.5)),
    "audio_empty": lambda folder: inputs(folder, audio=media.wav(media.tone()[:, :0])),
    "audio_too_short": lambda folder: inputs(folder, audio=media.wav(media.tone(seconds=0.02))),
    "audio_too_long": lambda folder: inputs(folder, max_audio_minutes=0.001),
    "length_differs": lambda folder: inputs(folder, row={"frames": 7}),
    "track_length_differs": other_track,
    "audio_not_copied": lambda folder: inputs(folder, video=VideoSettings(audio="copy")),
    "preset_unavailable": no_encoder,
    "audio_silent": lambda folder: inputs(folder, audio=media.wav(np.zeros((1, 16_000), np.float32))),
    "audio_not_finite": lambda folder: inputs(folder, audio=with_nan()),
    "audio_too_loud": lambda folder: inputs(folder, audio=media.wav(media.tone() * 30_000, kind="f32")),
    "pose_unreadable": lambda folder: pose(b"yaw,pitch\n1,2\n"),
    "pose_too_large": lambda folder: pose(b"0,0,0,0,0,1\n" * 100, max_audio_minutes=0.01),
    "pose_too_short": lambda folder: pose(b"0,0,0,0,0,1\n" * 5, frames=100),
    "emotion_span_too_late": lambda folder: raised(check_length, [LATE], 2.5, 63),
    "programme_overlaps": lambda folder: raised(Budget(Fraction(25), room=25).of, Fraction(2)),
    "programme_state_lost": lost_ending,
    "pose_span_too_late": lambda folder: raised(check_length, [LATE], 2.5, 63, "pose"),
    "silence_span_too_late": lambda folder: raised(check_length, [Pause(2.0, 4.0, number=1)], 2.5, 63, "silence"),
    "mouth_not_found": lambda folder: raised(check_faces, 0.1),
    "nfe_exhausted": lambda folder: worker(exhausted()),
    "encode_failed": lambda folder: encoder(OSError(28, "No space left on device")),
    "verify_failed": verified,
    "signing_failed": unsigned,
    "timed_out": late,
    "internal_error": lambda folder: said_by(error_row(CLIP, failing(lambda: {}["x"]), "render")),
    "video_lost": lost_video,
    "video_unreadable": lambda folder: film(folder, media.TEXT),
    "video_too_long": lambda folder: film(folder, media.mp4(None, pictures=30), max_audio_minutes=0.001),
    "out_of_memory": lambda folder: worker(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")),
    "worker_died": lambda folder: ("worker_died", WORKER_DIED.format(stage="the render", clip_id="a")),
    "interrupted": lambda folder: (interrupted().code, interrupted().message),
    "stopped": lambda folder: ("stopped", MISSING["stopped"]),
    "lost": lambda folder: ("lost", MISSING["lost"]),
}
"""Code -> (code, message) as a producer sees it."""


def test_every_code_has_a_sample():
    assert set(SAMPLES) == set(CODES)


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
