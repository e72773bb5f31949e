"""Marking and signing of delivered files, read back from real files."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pipeline import provenance
from pipeline.errors import ClipError
from pipeline.provenance import SOURCE_TYPE, mark, read_mark
from pipeline.settings import ProvenanceSettings, SettingError
from pipeline.signing import Signer, read_credentials
from tests import media
from tests.films import Film, speech

HASH = "ab" * 32
HOSTILE = "인사 & <b>\"quoted\"</rdf:RDF> 'x' שלום"


@pytest.fixture
def film(tmp_path):
    Film(wave=speech(1.0)).write(tmp_path / "film.mp4")
    return tmp_path / "film.mp4"


def boxes(data):
    """Names of the top-level boxes."""
    found, place = [], 0
    while place < len(data):
        found.append(data[place + 4 : place + 8].decode())
        place += int.from_bytes(data[place : place + 4], "big")
    return found


def test_the_mark_is_read_back_and_the_film_is_as_before(film):
    before, pictures = film.read_bytes(), media.pictures(str(film))
    assert read_mark(film) == {}
    said = mark(film, clip_id=HOSTILE, model="float", model_hash=HASH)
    assert read_mark(film) == said
    assert said["source_type"] == SOURCE_TYPE
    assert said["clip_id"] == HOSTILE
    assert said["generator"].startswith("Floatcast")
    data = film.read_bytes()
    assert data.startswith(before)
    assert boxes(data) == [*boxes(before), "uuid"]
    assert boxes(data).index("moov") < boxes(data).index("mdat")
    assert np.array_equal(media.pictures(str(film)), pictures)


def test_the_same_clip_gets_the_same_bytes(film):
    before = film.read_bytes()
    mark(film, clip_id="a", model="float", model_hash=HASH)
    first = film.read_bytes()
    film.write_bytes(before)
    mark(film, clip_id="a", model="float", model_hash=HASH)
    assert film.read_bytes() == first


def test_a_foreign_packet_that_defines_entities_is_not_read(film, monkeypatch):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    monkeypatch.setattr(provenance.ET, "tostring", lambda *_, **__: bomb)
    mark(film, clip_id="a", model="float", model_hash=HASH)
    with av.open(film, options={"export_xmp": "1"}) as file:
        assert "ENTITY" in file.metadata["xmp"]
    assert read_mark(film) == {}


# --- Signing -----------------------------------------------------------------------------------------------------


def certificate(subject, key, issuer, issuer_key, *, authority, days=30):
    now = datetime.now(UTC) - timedelta(days=1)

    def name(text):
        names = [(NameOID.COMMON_NAME, text), (NameOID.ORGANIZATION_NAME, "Tests"), (NameOID.COUNTRY_NAME, "DE")]
        return x509.Name([x509.NameAttribute(kind, value) for kind, value in names])

    names = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage = dict.fromkeys((*names, "encipher_only", "decipher_only"), False)
    usage |= {"digital_signature": not authority, "key_cert_sign": authority, "crl_sign": authority}
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not authority:
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usages, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """Settings with a certificate of an authority of our own."""
    folder = tmp_path_factory.mktemp("keys")
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("Test root", root_key, "Test root", root_key, authority=True)
    leaf = certificate("Test signer", key, "Test root", root_key, authority=False)
    encoding = serialization.Encoding.PEM
    (folder / "chain.pem").write_bytes(leaf.public_bytes(encoding) + root.public_bytes(encoding))
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return ProvenanceSettings(certificate=str(folder / "chain.pem"), private_key=str(folder / "key.pem"))


def test_a_signed_film_says_who_made_it_and_is_as_before(film, pem):
    pictures = media.pictures(str(film))
    said = mark(film, clip_id=HOSTILE, model="float", model_hash=HASH)
    assert read_credentials(film) is None
    Signer(pem).sign(film, clip_id=HOSTILE, model="float", model_hash=HASH)
    found = read_credentials(film)
    assert found.valid, found.problems
    assert found.title == HOSTILE
    assert found.source_types == (SOURCE_TYPE,)
    assert found.model_hash == HASH
    assert read_mark(film) == said
    assert np.array_equal(media.pictures(str(film)), pictures)
    assert [path.name for path in film.parent.iterdir()] == ["film.mp4"]


def test_one_changed_byte_of_the_film_is_found(film, pem):
    Signer(pem).sign(film, clip_id="a", model="float", model_hash=HASH)
    data = bytearray(film.read_bytes())
    data[data.rindex(b"mdat") + 5000] ^= 1
    film.write_bytes(data)
    found = read_credentials(film)
    assert not found.valid
    assert "mismatch" in " ".join(found.problems)


def test_a_file_that_cannot_be_signed_is_its_clips_error(tmp_path, pem):
    (tmp_path / "no.mp4").write_bytes(b"no film")
    with pytest.raises(ClipError) as caught:
        Signer(pem).sign(tmp_path / "no.mp4", clip_id="a", model="float", model_hash=HASH)
    assert (caught.value.code, caught.value.status) == ("signing_failed", "failed")


def test_keys_that_do_not_fit_are_refused_before_anything_is_rendered(tmp_path, pem):
    with pytest.raises(SettingError, match="private_key: is needed too"):
        ProvenanceSettings(certificate="c.pem")
    with pytest.raises(SettingError, match=r"no.pem does not exist"):
        Signer(ProvenanceSettings(certificate=str(tmp_path / "no.pem"), private_key=pem.private_key))
    with pytest.raises(SettingError, match="is not PEM"):
        Signer(ProvenanceSettings(certificate=str(media.SPEECH), private_key=pem.private_key))
    with pytest.raises(SettingError, match="do not sign with ed25519") as caught:
        Signer(ProvenanceSettings(certificate=pem.certificate, private_key=pem.private_key, algorithm="ed25519"))
    assert "PRIVATE KEY" not in str(caught.value)


def test_without_the_package_signing_is_refused_with_how_to_get_it(pem, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(SettingError, match="pip install c2pa-python"):
        Signer(pem)


@pytest.mark.slow
def test_a_job_signs_what_it_delivers_and_renders_again_what_was_not_signed(tiny_model, pem, tmp_path):
    def run(*more):
        keys = [f"model={tiny_model.path}", f"output={tmp_path / 'out'}", "only=en-1", *more]
        command = [sys.executable, "-m", "jobs.render", *keys]
        return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=300)

    assert run().returncode == 0
    [plain] = (tmp_path / "out" / "videos").iterdir()
    assert read_mark(plain)["model_hash"] == tiny_model.hash
    assert read_credentials(plain) is None
    refused = run("provenance.certificate=/nowhere.pem", f"provenance.private_key={pem.private_key}")
    assert refused.returncode == 2
    assert "provenance.certificate: /nowhere.pem does not exist" in refused.stderr
    signed = run(f"provenance.certificate={pem.certificate}", f"provenance.private_key={pem.private_key}")
    assert signed.returncode == 0, signed.stdout + signed.stderr
    assert "0 new, 1 changed" in signed.stdout
    [other] = set((tmp_path / "out" / "videos").iterdir()) - {plain}
    assert read_credentials(other).valid
    assert read_mark(other)["clip_id"] == "en-1"
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    key = Path(pem.private_key).read_bytes().splitlines()[1]
    assert key not in written
    assert key.decode() not in signed.stdout + signed.stderr
