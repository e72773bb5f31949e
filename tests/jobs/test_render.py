"""`jobs.render`: what it prints, its exit code, and the files it leaves; as a process where that is the point."""

import json
import os
import shutil
import signal
import time
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from PIL import Image

from jobs.render import DEMO
from pipeline.media.c2pa import read_credentials
from pipeline.media.xmp import read_mark
from pipeline.render.engine import Engine
from pipeline.run import render_loop
from pipeline.run.bottleneck import ADVICE
from tests import media
from tests.running import run_job

BEFORE = Path(__file__).parents[1] / "data" / "output_before"


def run(*arguments, cwd=None, **environment):
    """In this process, without Ray."""
    return run_job("render", *arguments, "executor=serial", cwd=cwd, **environment)


def table(output):
    return {row["clip_id"]: row for row in pq.read_table(output / "clips.parquet").to_pylist()}


def check_video(path, row):
    with av.open(path) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.width, video.height) == (row["width"], row["height"])
        assert (video.start_time, audio.start_time) == (0, 0)
        assert sum(1 for _ in file.decode(video)) == row["frames"]
    with av.open(path) as file:
        audio = file.streams.audio[0]
        samples = sum(frame.samples for frame in file.decode(audio))
        # The first frame of AAC is run-in, and the last one is filled up.
        assert abs(samples / audio.rate - row["audio_duration"]) < 2 * 1024 / audio.rate
    assert row["duration"] == pytest.approx(row["frames"] / row["fps"])
    assert 0 <= row["duration"] - row["audio_duration"] < 1 / row["fps"]


@pytest.mark.slow
def test_the_demo_from_a_folder_with_a_space_gives_six_playable_videos_and_a_table(rendered_demo):
    done, output = rendered_demo.ended, rendered_demo.output
    assert done.returncode == 0, done.stderr
    rows = table(output)
    embedded = {row["clip_id"]: row["video"] for row in pq.read_table(output / "videos.parquet").to_pylist()}
    assert len(rows) == len(list((output / "videos").iterdir())) == 6
    for clip_id, row in rows.items():
        assert row["status"] == "done"
        path = output / "videos" / f"{clip_id}.{row['fingerprint']}.mp4"
        assert row["uri"] == str(path)
        assert embedded[clip_id] == path.read_bytes()
        check_video(path, row)
    assert rows["en-2-happy"]["emotion"] == '{"happy": 1.0}'
    assert rows["en-1"]["emotion_source"] == "speech"
    assert rows["es-1-surprise"]["seed"] == 6
    assert {row["language"] for row in rows.values()} == {"en", "es", "de", "ja", "ko"}
    assert "UNTRAINED" in done.stdout
    assert f"videos  {output / 'videos'}" in done.stdout
    limit = json.loads((output / "summary.json").read_text())["limited_by"]
    assert f"limit  {ADVICE[limit]}" in done.stdout


@pytest.mark.parametrize("table_too", [True, False])
def test_a_run_resumes_in_an_output_of_an_earlier_version(table_too, tmp_path):
    shutil.copytree(BEFORE, tmp_path / "out")
    (tmp_path / "out" / "videos").mkdir()
    for record in map(json.loads, (file.read_text() for file in (BEFORE / "done").iterdir())):
        (tmp_path / "out" / "videos" / Path(record["uri"]).name).write_bytes(bytes(record["bytes"]))
    if not table_too:
        (tmp_path / "out" / "clips.parquet").unlink()
    done = run(f"output={tmp_path / 'out'}", "qc.enabled=false")  # the videos are not kept here, and cannot be judged
    assert done.returncode == 0, done.stdout + done.stderr
    assert "plan: 0 new, 0 changed, 6 done before" in done.stdout
    rows = table(tmp_path / "out")
    assert len(rows) == 6
    for row in rows.values():
        known = json.loads((BEFORE / "done" / f"{row['clip_id']}.{row['fingerprint']}.json").read_text())
        assert (row["status"], row["sha256"], row["committed"]) == ("done", known["sha256"], known["committed"])
        assert row["worker_attempt"] == 1
        assert "attempt" not in row  # its name until then


@pytest.mark.slow
def test_a_strip_has_a_row_of_frames_for_each_clip(rendered_demo, tmp_path):
    output, picture = f"output={rendered_demo.output}", tmp_path / "strip.png"
    done = run_job("research.strip", output, f"picture={picture}", "frames=5", "side=32", "clips=[en-2-happy, en-1]")
    assert done.returncode == 0, done.stderr
    tiles = np.asarray(Image.open(picture)).reshape(2, 32, 5, 32, 3).swapaxes(1, 2).astype(int)
    frames = media.pictures(table(rendered_demo.output)["en-2-happy"]["uri"])
    middles = [(2 * i + 1) * len(frames) // 10 for i in range(5)]
    assert np.abs(tiles[0] - frames[middles]).max() <= 3  # another way from YUV to RGB
    assert np.abs(tiles[1] - tiles[0]).mean() > 3  # another clip
    assert run_job("research.strip", output, f"picture={picture}", "clips=[c]").returncode == 2


@pytest.mark.slow
def test_a_second_run_renders_what_changed_and_nothing_else(rendered_demo, tiny_model, tmp_path):
    rows = [json.loads(line) for line in DEMO.read_text().splitlines()]
    for row in rows:
        row |= {name: str(DEMO.parent / row[name]) for name in ("image", "audio")}
    manifest, output = tmp_path / "m.jsonl", tmp_path / "out"
    shutil.copytree(rendered_demo.output, output)
    first = {
        clip_id: row | {"uri": row["uri"].replace(str(rendered_demo.output), str(output))}  # it follows the folder
        for clip_id, row in table(output).items()
    }

    def render(*arguments):
        manifest.write_text("\n".join(map(json.dumps, rows)))
        common = [f"manifest={manifest}", f"output={output}", f"model={tiny_model.path}", "embed_videos=true"]
        return run(*common, *arguments)

    again = render()
    assert again.returncode == 0, again.stderr
    assert "plan: 0 new, 0 changed, 6 done before" in again.stdout
    assert table(output) == first
    rows[1] |= {"emotion": "sad", "note": "retake"}
    dry = render("--dry-run")
    assert "plan: 0 new, 1 changed, 5 done before" in dry.stdout
    assert "changed: emotion x 1" in dry.stdout
    assert "would render en-2-happy" in dry.stdout
    assert table(output) == first
    assert render().returncode == 0
    second = table(output)
    changed = [clip_id for clip_id, row in second.items() if row["committed"] != first[clip_id]["committed"]]
    assert changed == ["en-2-happy"]
    assert (second["en-2-happy"]["emotion"], second["en-2-happy"]["note"]) == ('{"sad": 1.0}', "retake")
    assert len(list((output / "done").iterdir())) == 7  # both versions of the one that changed
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["state"], summary["exit_code"], summary["rendered"]) == ("finished", 0, 1)


# --- Interrupted -----------------------------------------------------------------------------------------------


def short_clips(folder, audios):
    """A manifest of one clip per path of a sound of a second."""
    (folder / "tone.wav").write_bytes(media.wav(media.tone()))
    rows = [{"clip_id": f"c{i}", "image": str(media.PORTRAIT), "audio": audio} for i, audio in enumerate(audios)]
    manifest = folder / "m.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    return manifest


def check_interrupted(output, done):
    """The first `done` clips are done, the others interrupted -> when those were committed."""
    rows = table(output)
    ends = [(row["status"], row["error_code"]) for row in rows.values()]
    assert ends == [("done", None)] * done + [("failed", "interrupted")] * (len(rows) - done)
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["state"], summary["exit_code"]) == ("interrupted", 130)
    assert not list(output.glob("*.lock"))
    return {clip_id: row["committed"] for clip_id, row in rows.items() if row["status"] == "done"}


def check_gone_on(output, before):
    """All clips are done, and those that were before are not rendered again."""
    rows = table(output)
    assert {row["status"] for row in rows.values()} == {"done"}
    assert all(rows[clip_id]["committed"] == when for clip_id, when in before.items())


@pytest.mark.slow
def test_a_run_without_ray_that_is_stopped_gives_up_its_clip_and_the_next_one_resumes(
    tiny_model, tmp_path, monkeypatch
):
    output = tmp_path / "out"
    manifest = short_clips(tmp_path, ["tone.wav"] * 3)
    arguments = [f"manifest={manifest}", f"output={output}", f"model={tiny_model.path}", "qc.enabled=false"]
    render_round = Engine._round

    def stopped_round(engine):
        if any(job.item.clip.clip_id == "c1" for job in engine._rendering.values()):
            while not list((output / "done").glob("c0.*")):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            while not engine._closing:
                time.sleep(0.01)
        render_round(engine)

    def pressed_again(write):
        def written(*arguments, **more):
            os.kill(os.getpid(), signal.SIGINT)
            return write(*arguments, **more)

        return written

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "_round", stopped_round)
        for name in ("write_tables", "write_report"):
            patched.setattr(render_loop, name, pressed_again(getattr(render_loop, name)))
        first = run(*arguments)
    assert first.returncode == 130, first.stderr
    before = check_interrupted(output, done=1)
    assert (output / "report.html").exists()
    assert "interrupted with exit code 130" in run_job("status", f"output={output}").stdout
    assert not (output / "attempts").exists()  # given up is not died
    second = run(*arguments)
    assert second.returncode == 0, second.stderr
    check_gone_on(output, before)


def test_a_run_that_is_stopped_while_it_plans_says_so(tiny_model, tmp_path, monkeypatch):
    manifest = short_clips(tmp_path, ["tone.wav"])
    monkeypatch.setattr("pipeline.run.run.make_plan", lambda *given, **more: os.kill(os.getpid(), signal.SIGINT))
    done = run(f"manifest={manifest}", f"output={tmp_path / 'out'}", f"model={tiny_model.path}")
    assert done.returncode == 130
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["state"], summary["exit_code"]) == ("interrupted", 130)
    assert not list((tmp_path / "out").glob("*.lock"))


# --- Inputs ----------------------------------------------------------------------------------------------------


def three_faces():
    """The same portrait three times, the largest in the middle."""
    image = Image.new("RGB", (1200, 512), (120, 120, 120))
    portrait = Image.open(media.PORTRAIT).convert("RGB")
    small = portrait.resize((320, 320))
    for picture, x in ((small, 0), (portrait, 340), (small, 870)):
        image.paste(picture, (x, 0))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_bad_inputs(folder):
    """A manifest with every kind of bad input beside good ones -> (its path, expected error code by clip_id)."""
    good_image = media.PORTRAIT.read_bytes()
    pixels = np.asarray(Image.open(media.PORTRAIT).convert("RGB"))
    tone = media.tone(seconds=1.0, rate=48_000, channels=2)
    speech, rate = media.speech()
    with_nan = tone.copy()
    with_nan[:, 1000] = np.nan
    files = {
        "portrait.png": good_image,
        "speech.wav": media.wav(speech[:, rate : 2 * rate], rate),
        "empty.wav": b"",
        "text.wav": media.TEXT,
        "text.png": media.TEXT,
        "truncated.mp4": media.cut(media.mp4(tone), 0.5),
        "no-samples.wav": media.wav(tone[:, :0]),
        "silence.wav": media.wav(np.zeros_like(tone)),
        "nan.wav": media.wav(with_nan, kind="f32"),
        "10ms.wav": media.wav(tone[:, :480], rate=48_000),
        "8khz-stereo.wav": media.wav(media.tone(rate=8_000, channels=2), rate=8_000),
        "444.jpg": media.picture(pixels, "JPEG", subsampling=0),
        "cmyk.jpg": media.picture(pixels, "JPEG", mode="CMYK"),
        "16-bit.png": media.png16(pixels.astype(np.uint16) * 257),
        "1x1.png": media.picture(np.zeros((1, 1, 3), np.uint8)),
        "20000.png": media.huge_png(),
        "no-face.png": media.picture(np.full((256, 256, 3), 128, np.uint8)),
        "three-faces.png": three_faces(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    changes = {
        "good": ({}, None),
        "no-such-file": ({"audio": "nowhere.wav"}, "input_not_found"),
        "empty-file": ({"audio": "empty.wav"}, "input_empty"),
        "text-as-wav": ({"audio": "text.wav"}, "audio_unreadable"),
        "text-as-png": ({"image": "text.png"}, "image_unreadable"),
        "truncated-mp4": ({"audio": "truncated.mp4"}, "audio_unreadable"),
        "no-samples": ({"audio": "no-samples.wav"}, "audio_empty"),
        "silence": ({"audio": "silence.wav"}, "audio_silent"),
        "nan": ({"audio": "nan.wav"}, "audio_not_finite"),
        "10ms": ({"audio": "10ms.wav"}, "audio_too_short"),
        "8khz-stereo": ({"audio": "8khz-stereo.wav"}, None),
        "444": ({"image": "444.jpg"}, None),
        "cmyk": ({"image": "cmyk.jpg"}, None),
        "16-bit": ({"image": "16-bit.png"}, None),
        "1x1": ({"image": "1x1.png"}, "image_too_small"),
        "20000px": ({"image": "20000.png"}, "image_too_large"),
        "no-face": ({"image": "no-face.png"}, "face_not_found"),
        "three-faces": ({"image": "three-faces.png"}, None),
        "unknown-emotion": ({"emotion": "melancholy"}, "value_invalid"),
        "seed-of-wrong-type": ({"seed": "seven"}, "value_invalid"),
        "no-audio": ({"audio": None}, "value_missing"),
        "../escape": ({}, "clip_id_invalid"),
        "other-scheme": ({"audio": "http://127.0.0.1:1/a.wav"}, "uri_not_allowed"),
    }
    rows = [
        {"clip_id": clip_id, "image": "portrait.png", "audio": "speech.wav", "note": clip_id, **change}
        for clip_id, (change, _) in changes.items()
    ]
    rows += [{**rows[0], "clip_id": "twice"}, {**rows[0], "clip_id": "twice"}]
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)) + "\nnot json\n")
    codes = {clip_id: code for clip_id, (_, code) in changes.items()}
    return manifest, {**codes, "twice": "clip_id_duplicate", "row-26": "row_unreadable"}


@pytest.mark.slow
def test_bad_inputs_end_as_rows_with_codes_and_the_others_are_rendered(tiny_model, tmp_path):
    manifest, expected = write_bad_inputs(tmp_path)
    output = tmp_path / "out"
    done = run(f"manifest={manifest}", f"output={output}", f"model={tiny_model.path}")
    assert done.returncode == 1, done.stderr
    rows = table(output)
    assert {clip_id: row["error_code"] for clip_id, row in rows.items()} == expected
    assert pq.read_metadata(output / "clips.parquet").num_rows == 26
    for clip_id, row in rows.items():
        assert row["status"] == ("rejected" if expected[clip_id] else "done")
        if expected[clip_id]:
            assert len(row["error_message"]) > 20
        else:
            assert row["note"] == clip_id
            check_video(row["uri"], row)
    assert rows["three-faces"]["faces_found"] == 3
    assert 340 < rows["three-faces"]["face_box"][0] < 870
    videos = {str(path) for path in output.rglob("*.mp4")}
    assert videos == {row["uri"] for row in rows.values() if row["status"] == "done"}
    assert not list(output.rglob("*.part"))
    assert not list(output.glob("*.lock"))


@pytest.mark.slow
def test_check_looks_at_every_input_and_writes_nothing(tiny_model, tmp_path):
    manifest, expected = write_bad_inputs(tmp_path)
    done = run("--check", f"manifest={manifest}", f"output={tmp_path / 'out'}", f"model={tiny_model.path}")
    assert done.returncode == 1, done.stderr
    good = sum(code is None for code in expected.values())
    assert f"{good} clips can be rendered, {26 - good} cannot" in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", "", "has no rows"),
        ("header.csv", "image,audio\n", "has no rows"),
        ("column.csv", "image,sound\na.png,b.wav\n", "has no column audio; it has image, sound"),
        ("table.xlsx", "x", "must end in .parquet, .csv, "),
        ("broken.parquet", "x", "could not be read"),
    ],
)
def test_a_manifest_that_is_invalid_is_refused_before_anything_starts(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    done = run(f"manifest={tmp_path / name}", f"output={tmp_path / 'out'}")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["--check", "--dry-run"])
def test_what_was_noticed_about_a_manifest_is_said(tiny_model, tmp_path, flag):
    (tmp_path / "m.csv").write_text(f"Image;audio;Seed\n{media.PORTRAIT};{media.SPEECH} ;7\n;;\n")
    done = run(flag, f"manifest={tmp_path / 'm.csv'}", f"output={tmp_path / 'out'}", f"model={tiny_model.path}")
    assert done.returncode == 0, done.stderr
    assert "m.csv: 1 rows, 0 rejected" in done.stdout
    for note in (
        "the values are separated by semicolons",
        "column 'Seed' is read as seed",
        "spaces around values of column audio were removed (row 1 (line 2): '",
        "rows without any value were left out (row 2 (line 3))",
    ):
        assert f"  note: {note}" in done.stdout


def test_a_damaged_model_is_refused_by_the_name_of_its_file(tiny_model, tmp_path):
    shutil.copytree(tiny_model.path, tmp_path / "model")
    with (tmp_path / "model" / "model.safetensors").open("r+b") as file:
        file.truncate(100)
    done = run(f"model={tmp_path / 'model'}", f"output={tmp_path / 'out'}")
    assert done.returncode == 2
    assert "model.safetensors is damaged" in done.stderr


def test_a_table_that_cannot_be_written_is_a_failure_of_the_storage(tiny_model, tmp_path, monkeypatch):
    (tmp_path / "m.jsonl").write_text('{"image": "a.png", "audio": "a.wav", "seed": "none"}')
    monkeypatch.setattr("pipeline.run.tables.write_table", lambda *rows, **more: os.stat(tmp_path / "none"))
    done = run(f"manifest={tmp_path / 'm.jsonl'}", f"output={tmp_path / 'out'}", f"model={tiny_model.path}")
    assert done.returncode == 3
    assert f"error: the table {tmp_path / 'out' / 'clips.parquet'} was not written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_key_a_missing_manifest_and_a_missing_model_exit_with_2():
    for argument, message in (
        ("outptu=x", "did you mean output?"),
        ("manifest=/nowhere/m.csv", "/nowhere/m.csv does not exist"),
        ("model=/nowhere/model", "/nowhere/model is not a model folder"),
        ("--fast", "unknown option --fast"),
    ):
        done = run(argument)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def consent_manifest(folder):
    """Three clips of Anna: with a consent, with one that has ended, with none; and arguments that ask for it."""
    line = {"image": str(media.PORTRAIT), "audio": str(media.SPEECH), "speaker": "Anna", "emotion": "happy"}
    rows = [line | {"clip_id": "held", "consent_ref": "c-1"}, line | {"clip_id": "ended", "consent_ref": "c-0"}]
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, [*rows, line | {"clip_id": "none"}])))
    (folder / "r.csv").write_text("consent_ref,speaker,expires\nc-1,Anna,\nc-0,Anna,2020-12-31\n")
    return ["manifest=m.jsonl", "consent.speakers=['*']", "consent.register=r.csv"]


@pytest.mark.slow
def test_clips_are_rendered_with_consent_marked_and_signed(tiny_model, studio, tmp_path):
    studio.write(tmp_path)
    arguments = [*consent_manifest(tmp_path), "output=out", f"model={tiny_model.path}"]
    for flag, said in (
        ("--dry-run", "rejected  none  consent_missing"),
        ("--check", "1 clips can be rendered, 2 cannot"),
    ):
        done = run(flag, *arguments, cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert said in done.stdout
        assert "3 rows, 2 rejected" in done.stdout
    plain = run(*arguments, cwd=tmp_path)
    assert plain.returncode == 1, plain.stderr
    rows = table(tmp_path / "out")
    codes = {clip_id: row["error_code"] for clip_id, row in rows.items()}
    assert codes == {"held": None, "ended": "consent_expired", "none": "consent_missing"}
    assert rows["held"]["provenance"] == "xmp"
    signed = run(*arguments, "provenance.certificate=chain.pem", "provenance.private_key=key.pem", cwd=tmp_path)
    assert "changed: provenance.signed x 1" in signed.stdout, signed.stderr
    row = table(tmp_path / "out")["held"]
    assert row["provenance"] == "xmp+c2pa"
    assert read_mark(Path(row["uri"]))["title"] == "held"
    assert read_credentials(Path(row["uri"])).valid
    check_video(row["uri"], row)
    left = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(studio.key.splitlines()[1] in data for data in [*left, (signed.stdout + signed.stderr).encode()])


def test_a_certificate_or_register_that_does_not_do_is_refused_before_anything_starts(tmp_path):
    arguments = consent_manifest(tmp_path)
    (tmp_path / "chain.pem").write_text("none")
    (tmp_path / "key.pem").write_text("none")
    signing = ["provenance.certificate=chain.pem", "provenance.private_key=key.pem"]
    (tmp_path / "wrong.csv").write_text("consent_ref,speaker,expires\nc-1,Anna,soon\n")
    for wrong, message in (
        (signing, "chain.pem cannot sign"),
        (["consent.register=wrong.csv"], "wrong.csv, row 1 (line 2), column expires: 'soon' is not a date"),
    ):
        done = run(*arguments, *wrong, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_manifest_inputs_model_and_output_in_object_storage(tiny_model, tmp_path, s3):
    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    root = f"{s3}/render"
    fs.put_file(str(media.PORTRAIT), f"{root}/in/portrait.png")
    fs.put_file(str(media.SPEECH), f"{root}/in/speech.wav")
    fs.put(str(tiny_model.path), f"{root}/models/tiny", recursive=True)
    columns = {"clip_id": ["near", "far"], "image": ["in/portrait.png", f"{root}/in/portrait.png"]}
    columns |= {"audio": ["in/speech.wav", f"{root}/in/none.wav"], "seed": [3.0, None]}
    local = tmp_path / "m.parquet"
    pq.write_table(pa.table(columns), local)
    fs.put_file(str(local), f"{root}/m.parquet")
    done = run(
        f"manifest={root}/m.parquet",
        f"output={root}/out",
        f"model={root}/models/tiny",
        FLOATCAST_CACHE=str(tmp_path / "cache"),
    )
    assert done.returncode == 1, done.stderr
    fs.invalidate_cache()
    fs.get(f"{root}/out/", f"{tmp_path}/got/", recursive=True)
    rows = table(tmp_path / "got")
    assert rows["far"]["error_code"] == "input_not_found"
    name = f"near.{rows['near']['fingerprint']}.mp4"
    assert rows["near"]["uri"] == f"{root}/out/videos/{name}"
    assert rows["near"]["seed"] == 3
    check_video(tmp_path / "got" / "videos" / name, rows["near"])
    shutil.rmtree(tmp_path / "got")


def test_spans_are_checked_rendered_told_and_kept_for_another_run(tiny_model, tmp_path):
    """One row is rendered, one has a span beyond its audio, and the file of one is not there."""
    good = [{"start": 0.2, "end": 1.0, "emotion": "happy", "strength": 1.5}, {"emotion": "sad"}]
    heard = [{"start": 0.2, "end": 1.0, "emotion": {"happy": 0.75, "fear": 0.25}}]
    row = {"image": str(media.PORTRAIT), "audio": str(media.SPEECH), "nfe": 1}
    rows = [
        row | {"clip_id": "good", "emotion": good},
        row | {"clip_id": "late", "emotion": [*heard, {"start": 1000, "end": 1001, "emotion": "sad"}]},
        row | {"clip_id": "no-file", "audio": "nowhere.wav", "emotion": heard, "emotion_fade": 0.1},
    ]
    manifest, output = tmp_path / "m.jsonl", tmp_path / "out"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    common = [f"manifest={manifest}", f"output={output}", f"model={tiny_model.path}", "qc.enabled=false"]
    checked = run(*common, "--check")
    assert checked.returncode == 1
    assert "span 2 of the column emotion lasts from 1000 to 1001 s, but the audio ends after" in checked.stdout
    assert run(*common).returncode == 1
    found = table(output)
    assert {name: one["error_code"] for name, one in found.items()} == {
        "good": None,
        "late": "emotion_span_too_late",
        "no-file": "input_not_found",
    }
    assert json.loads(found["good"]["emotion"]) == good
    words = "happy from 0.2 to 1 s at 1.5 times the strength; elsewhere sad"
    assert words in (output / "report.html").read_text()
    again = [json.loads(line) for line in (output / "failed.jsonl").read_text().splitlines()]
    assert [(one["clip_id"], one["emotion"], one["emotion_fade"]) for one in again] == [
        ("late", rows[1]["emotion"], 0.3),
        ("no-file", heard, 0.1),
    ]
