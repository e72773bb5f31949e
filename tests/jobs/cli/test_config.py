"""Configuration: help, precedence, and errors that name the key and what is allowed."""

from dataclasses import fields

import pytest

from jobs.cli.config import ConfigError, help_text, keys, load_config, parse
from jobs.render import USAGE, RenderJob


def test_help_names_every_key_with_sentence_type_and_default():
    text = help_text(RenderJob, USAGE)
    for key in keys(RenderJob):
        assert f"  {key.name}  ({key.type_name}" in text
        assert key.help.endswith("."), key.name
        assert key.help in text
    assert "video.crf  (int, 1 to 51; default 18)" in text
    assert "render.solver  (str, one of auto, euler, midpoint, heun, rk4, dopri5, ddim; default auto)" in text
    assert {f.name for f in fields(RenderJob)} <= {key.name.split(".")[0] for key in keys(RenderJob)}


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("output: s3://bucket/a\nvideo:\n  crf: 30\n  speed: fast\nlimits.min_image_side: 32\n")
    job = load_config(RenderJob, [f"config={file}", "video.crf=25"])
    assert (job.output, job.video.crf, job.video.speed, job.video.fps) == ("s3://bucket/a", 25, "fast", "25")
    assert job.limits.min_image_side == 32


@pytest.mark.parametrize("uri", ["s3://key:hidden@bucket/x", "https://host/x?X-Amz-Signature=hidden"])
@pytest.mark.parametrize("key", ["manifest", "output", "model"])
def test_a_uri_with_credentials_is_refused_by_every_job(key, uri, tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text(f"{key}: {uri}")
    for argument in (f"{key}={uri}", f"config={file}"):
        with pytest.raises(ConfigError, match=f"{key}: .* contains credentials"):
            load_config(RenderJob, [argument])


def test_an_error_on_the_screen_has_no_credentials(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(RenderJob, USAGE, ["output=s3://key:hidden@bucket/x"])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert "s3://***bucket/x" in told
    assert "hidden" not in told


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        ("output=/tmp/a b, c: [d]", "output", "/tmp/a b, c: [d]"),
        ("embed_videos=true", "embed_videos", True),
        ("defaults.a_cfg_scale=3", "defaults.a_cfg_scale", 3.0),
        ("video.fps=30000/1001", "video.fps", "30000/1001"),
        ("limits.allowed_schemes=[file]", "limits.allowed_schemes", ["file"]),
        ("limits.input_prefixes=['/a', /b]", "limits.input_prefixes", ["/a", "/b"]),
    ],
)
def test_values_have_the_type_of_their_key(argument, key, value):
    got = load_config(RenderJob, [argument])
    for name in key.split("."):
        got = getattr(got, name)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("outptu=x", "unknown key 'outptu': did you mean output?"),
        ("video.fsp=30", "did you mean video.fps?"),
        ("video=3", "unknown key 'video'"),
        ("video.crf=high", "video.crf: 'high' is not allowed; it must be int, 1 to 51"),
        ("video.crf=0", "it must be int, 1 to 51; 0 would be lossless H.264 (profile High 4:4:4), which browsers"),
        ("video.crf=99", "video.crf: '99' is not allowed; it must be int, 1 to 51"),
        ("embed_videos=perhaps", "embed_videos: 'perhaps' is not allowed; it must be bool"),
        ("render.solver=rk5", "render.solver: 'rk5' is not allowed; it must be str, one of auto, euler"),
        ("features.workers=-1", "features.workers: '-1' is not allowed; it must be int, 0 or more"),
        ("defaults.seed=1.5", "defaults.seed: '1.5' is not allowed"),
        ("defaults.a_cfg_scale=nan", "defaults.a_cfg_scale: 'nan' is not allowed"),
        ("video.fps=fast", "video.fps: 'fast' is not a frame rate"),
        ("features.overlap_seconds=40", "features.overlap_seconds: 40.0 is not less than half"),
        ("manifest", "'manifest' is not of the form key=value"),
        ("config=/nowhere.yaml", "config: /nowhere.yaml does not exist"),
    ],
)
def test_what_is_refused_says_why(argument, message):
    with pytest.raises(ConfigError) as error:
        load_config(RenderJob, [argument])
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["*", "[*]", "[a, b"])
def test_a_list_that_is_invalid_is_refused_by_its_key(text):
    with pytest.raises(ConfigError, match=r"consent\.speakers: .* is not a list"):
        load_config(RenderJob, [f"consent.speakers={text}"])


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("provenance.certificate=chain.pem", "provenance.private_key"),
        ("provenance.private_key=key.pem", "provenance.certificate"),
        ("consent.speakers=[Anna]", "consent.register"),
        ("consent.register=r.csv", "consent.speakers"),
    ],
)
def test_keys_that_come_together_name_the_missing_one(given, missing):
    with pytest.raises(ConfigError, match=f"^{missing}: "):
        load_config(RenderJob, [given])
