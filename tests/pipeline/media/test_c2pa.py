"""Signed files as a verifier sees them, and configurations that cannot sign."""

import json
import logging
import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization

from models import ModelFolder
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.options import SettingError
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.media.c2pa import CertificateError, Signer, check_signing, open_signer, read_credentials
from pipeline.media.mp4 import verify_video, write_video
from pipeline.media.presets import MXF
from pipeline.media.settings import ProvenanceSettings, VideoSettings
from pipeline.media.sound_output import silence
from pipeline.media.xmp import SOURCE_TYPE, mark, read_mark, tags_of_mark
from pipeline.render.engine import Engine
from pipeline.render.feature_stage import FeatureStage
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.run.fingerprint import job_parts
from tests import certificates, media
from tests.running import results

MADE = {"clip_id": "R&D <b> 日本語", "model": "float", "model_hash": "0123456789abcdef" * 4}


@pytest.fixture(scope="module")
def studio():
    return certificates.identity()


@pytest.fixture
def settings(studio, tmp_path):
    return ProvenanceSettings(**studio.write(tmp_path))


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(media.mp4(media.tone(rate=48_000), faststart=True))
    return path


# --- What is signed --------------------------------------------------------------------------------------------


def test_a_signed_file_tells_who_made_it_of_what_and_that_it_is_untouched(video, settings):
    mark(video, **MADE)
    before = media.pictures(str(video))
    Signer(settings).sign(video, **MADE)
    found = read_credentials(video)
    assert found.valid
    assert found.problems == ("signingCredential.untrusted",)  # nobody here knows the authority
    assert (found.title, found.source_type, found.agent) == (MADE["clip_id"], SOURCE_TYPE, "Floatcast")
    assert (found.model, found.model_hash) == (MADE["model"], MADE["model_hash"])
    assert read_mark(video)["title"] == MADE["clip_id"]
    assert np.array_equal(media.pictures(str(video)), before)
    data = video.read_bytes()
    assert data[4:8] == b"ftyp"
    assert data.index(b"moov") < data.index(b"mdat")
    assert not list(video.parent.glob("*.signed.mp4"))


@pytest.mark.parametrize(
    ("place", "beyond"), [(b"mdat", 200), (b"moov", 20), (SOURCE_TYPE.encode(), -3), (b"c2pa.actions.v2", -1)]
)
def test_one_changed_byte_is_found(video, settings, place, beyond):
    mark(video, **MADE)
    Signer(settings).sign(video, **MADE)
    data = bytearray(video.read_bytes())
    # Of the XMP's text the last one: the claim has the same words before it.
    data[data.rindex(place) + len(place) + beyond] ^= 1
    video.write_bytes(data)
    try:
        found = read_credentials(video)
    except ValueError:
        return  # a claim that is damaged itself
    assert not found.valid
    assert set(found.problems) - {"signingCredential.untrusted"}


def test_a_file_that_nobody_signed_has_no_claim(video):
    mark(video, **MADE)
    assert read_credentials(video) is None


def test_a_file_that_is_no_video_is_refused_by_name(tmp_path):
    (tmp_path / "note.mp4").write_bytes(media.TEXT)
    with pytest.raises(ValueError, match=r"note\.mp4 cannot be read"):
        read_credentials(tmp_path / "note.mp4")


@pytest.mark.parametrize("algorithm", sorted(certificates.KEYS))
def test_every_algorithm_of_the_settings_signs(video, tmp_path, algorithm):
    own = ProvenanceSettings(**certificates.identity(algorithm).write(tmp_path), algorithm=algorithm)
    Signer(own).sign(video, **MADE)
    assert read_credentials(video).valid


@pytest.mark.parametrize("purpose", [certificates.DOCUMENTS, certificates.CLAIMS])
def test_the_purposes_of_c2pa_are_taken(video, tmp_path, purpose):
    Signer(ProvenanceSettings(**certificates.identity(purpose=purpose).write(tmp_path))).sign(video, **MADE)
    assert read_credentials(video).valid


def test_many_threads_sign_with_one_signer(video, settings, tmp_path):
    signer = Signer(settings)

    def sign(number):
        path = shutil.copy(video, tmp_path / f"{number}.mp4")
        signer.sign(path, **MADE | {"clip_id": f"c{number}"})
        return read_credentials(path).title

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sign, range(40))) == [f"c{number}" for number in range(40)]


def test_a_clip_that_cannot_be_signed_fails_with_a_code_and_stays_as_it_was(tmp_path, settings):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(media.TEXT)
    with pytest.raises(ClipError) as error:
        Signer(settings).sign(broken, **MADE)
    assert (error.value.code, error.value.status) == ("signing_failed", "failed")
    assert broken.read_bytes() == media.TEXT
    assert not list(tmp_path.glob("*.signed.mp4"))


# --- What is refused -------------------------------------------------------------------------------------------


def test_nothing_is_signed_and_nothing_needed_without_a_certificate(monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert open_signer(ProvenanceSettings()) is None
    assert open_signer(None) is None
    assert check_signing(ProvenanceSettings()) == ProvenanceSettings()


def test_a_missing_package_is_named_with_the_command_that_installs_it(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)  # as if it were not installed
    with pytest.raises(CertificateError, match="python -m pip install c2pa-python"):
        check_signing(settings)


@pytest.mark.parametrize(("given", "missing"), [("certificate", "private_key"), ("private_key", "certificate")])
def test_a_certificate_and_its_key_come_together(given, missing):
    with pytest.raises(SettingError) as error:
        ProvenanceSettings(**{given: "x.pem"})
    assert error.value.key == missing
    assert given in error.value.problem


def test_a_time_stamp_authority_has_an_address():
    with pytest.raises(SettingError, match="timestamp_url"):
        ProvenanceSettings(timestamp_url="stamps.example")


def unfit(studio):
    """(chain, key) that cannot sign, and a word of the message; None takes the good one."""
    key = serialization.load_pem_private_key(studio.key, None)
    other = certificates.identity()
    return {
        "key of another": (None, other.key, "cannot sign"),
        "self-signed": (studio.authority, None, "not be self-signed"),
        "authority first": (studio.authority + studio.leaf, None, "first"),
        "expired": (certificates.identity(days=-1), None, "valid today"),
        "for servers": (certificates.identity(purpose=certificates.SERVER), None, "emailProtection"),
        "for nothing": (certificates.identity(purpose=None), None, "emailProtection"),
        "for encryption": (certificates.identity(usage="key_encipherment"), None, "digitalSignature"),
        "another algorithm": (certificates.identity("es384"), None, "algorithm"),
        "key with a password": (None, certificates.pem(key, password=b"secret"), "without a password"),
        "key of old": (None, certificates.pem(key, serialization.PrivateFormat.TraditionalOpenSSL), "PKCS#8"),
        "no certificate": (media.TEXT, None, "PEM"),
        "empty": (b"", b"", "PEM"),
        "key among the certificates": (studio.leaf + studio.authority + studio.key, None, "contains a private key"),
    }


@pytest.mark.parametrize("case", sorted(unfit(certificates.identity())))
def test_what_cannot_sign_is_refused_before_any_clip_with_what_to_change(studio, tmp_path, case):
    chain, key, word = unfit(studio)[case]
    if isinstance(chain, certificates.Identity):
        files = chain.write(tmp_path)
    else:
        files = studio.write(tmp_path, chain, key)
    with pytest.raises(CertificateError) as error:
        check_signing(ProvenanceSettings(**files))
    assert word in str(error.value)
    assert "BEGIN" not in str(error.value)
    assert secret_of(studio) not in str(error.value)


@pytest.mark.parametrize("gone", ["chain.pem", "key.pem"])
def test_a_file_that_does_not_exist_is_named(settings, tmp_path, gone):
    (tmp_path / gone).unlink()
    with pytest.raises(CertificateError, match=f"{gone} does not exist"):
        check_signing(settings)


def test_a_time_stamp_authority_that_does_not_answer_is_found_before_any_clip(settings):
    settings.timestamp_url = "http://127.0.0.1:9/stamp"
    with pytest.raises(CertificateError, match=r"127\.0\.0\.1:9.*provenance.timestamp_url is given, it must answer"):
        check_signing(settings)


def test_workers_get_paths_that_hold_in_their_working_directory_and_no_key(studio, tmp_path, monkeypatch):
    studio.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    sent = check_signing(ProvenanceSettings(certificate="chain.pem", private_key="key.pem"))
    assert (sent.certificate, sent.private_key) == (f"{tmp_path}/chain.pem", f"{tmp_path}/key.pem")
    assert secret_of(studio).encode() not in pickle.dumps(sent)


# --- In the engine ---------------------------------------------------------------------------------------------


def secret_of(identity):
    """A line of the key's text."""
    return identity.key.decode().splitlines()[1]


@pytest.fixture(scope="module")
def item(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("manifest") / "m.jsonl"
    line = {"clip_id": "R&D 日本語", "image": str(media.PORTRAIT), "audio": str(media.SPEECH), "emotion": "happy"}
    path.write_text(json.dumps(line))
    return results(
        FeatureStage(str(tiny_model.path), FeatureSettings(), Limits(), VideoSettings()), read_manifest(str(path)).clips
    )


def rendered(model, items, output, provenance=None):
    engine = Engine(model, EngineSettings(device="cpu"), VideoSettings(), Ledger(str(output)), provenance)
    return next(iter(engine.process(items)))


def test_every_clip_is_marked_and_signed_where_a_certificate_is_given(
    tiny_model, item, settings, studio, tmp_path, caplog
):
    caplog.set_level(logging.DEBUG)
    plain = rendered(tiny_model, item, tmp_path / "plain")
    signed = rendered(tiny_model, item, tmp_path / "signed", settings)
    assert (plain["status"], plain["provenance"]) == ("done", "xmp")
    assert (signed["status"], signed["provenance"]) == ("done", "xmp+c2pa")
    for row in (plain, signed):
        made = read_mark(Path(row["uri"]))
        assert (made["title"], made["model"], made["model_hash"]) == (row["clip_id"], "tiny", tiny_model.hash)
        assert made["digital_source_type"] == SOURCE_TYPE
    assert read_credentials(Path(plain["uri"])) is None
    found = read_credentials(Path(signed["uri"]))
    assert found.valid
    assert (found.title, found.model, found.model_hash) == (signed["clip_id"], "tiny", tiny_model.hash)
    written = json.dumps(signed) + caplog.text
    written += "".join(path.read_text() for path in (tmp_path / "signed" / "done").iterdir())
    assert secret_of(studio) not in written
    assert "PRIVATE KEY" not in written


@pytest.mark.parametrize(("preset", "container"), [("prores_422_hq", "mov"), ("prores_4444", "mov"), ("hevc", "mp4")])
def test_files_for_editing_are_signed_where_their_container_has_a_place(preset, container, settings, tmp_path):
    video = VideoSettings(preset=preset, container=container)
    layout, path = video.format.layout, tmp_path / f"film.{container}"
    planes = np.full((2, layout.plane_rows(128), 256), 128, layout.dtype)
    sound = silence(4_000, video.format.sound)
    write_video(planes, path, (256, 128), video, sound, tags_of_mark(video.format.container, **MADE))
    mark(path, **MADE)
    open_signer(settings, video.format.container).sign(path, **MADE)
    found = read_credentials(path)
    assert (found.valid, found.title, found.model) == (True, MADE["clip_id"], MADE["model"])
    assert read_mark(path)["title"] == MADE["clip_id"]
    delivered = verify_video(path, frames=2, fps=Fraction(25), form=video.format)
    assert delivered.frames == 2
    data = bytearray(path.read_bytes())
    data[data.index(b"mdat") + 40] ^= 1
    path.write_bytes(data)
    assert not read_credentials(path).valid


def test_signing_is_refused_for_a_container_that_cannot_be_signed(settings):
    with pytest.raises(CertificateError, match="MXF files cannot be signed"):
        open_signer(settings, MXF)
    with pytest.raises(CertificateError, match="MXF files cannot be signed"):
        check_signing(settings, MXF)
    assert check_signing(ProvenanceSettings(), MXF) == ProvenanceSettings()


def test_an_engine_does_not_start_with_a_certificate_that_cannot_sign(tiny_model, tmp_path):
    files = certificates.identity(days=-1).write(tmp_path)
    with pytest.raises(CertificateError, match="valid today"):
        rendered(tiny_model, [], tmp_path / "out", ProvenanceSettings(**files))


def test_a_clip_whose_signing_fails_is_a_failed_row(tiny_model, item, settings, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space left")

    engine = Engine(tiny_model, EngineSettings(device="cpu"), VideoSettings(), Ledger(str(tmp_path / "out")), settings)
    monkeypatch.setattr(Signer, "_sign", fail)
    row = next(iter(engine.process(item)))
    assert (row["status"], row["error_code"]) == ("failed", "signing_failed")
    assert "no space left" in row["error_message"]
    assert not list((tmp_path / "out").rglob("*.mp4"))


def test_a_full_frame_names_its_picture_in_the_mark_and_as_an_ingredient(video, settings):
    sha256 = "ab" * 32
    mark(video, **MADE, source_sha256=sha256)
    Signer(settings).sign(video, **MADE, source_sha256=sha256)
    found = read_credentials(video)
    assert found.valid
    assert found.problems == ("signingCredential.untrusted",)
    assert found.source_sha256 == sha256
    assert read_mark(video)["source"] == f"urn:sha256:{sha256}"


def test_signing_renders_again_what_was_done_unsigned_and_a_new_certificate_does_not(tiny_model, settings):
    parts = (ModelFolder.open(tiny_model.path), FeatureSettings(), EngineSettings(), VideoSettings())
    before = job_parts(*parts)
    assert job_parts(*parts, ProvenanceSettings()) == before
    signed = job_parts(*parts, settings)
    assert signed == before | {"provenance.signed": True}
    settings.certificate = "another.pem"
    assert job_parts(*parts, settings) == signed
