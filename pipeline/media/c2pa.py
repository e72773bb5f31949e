"""C2PA: a signed claim in the delivered file about who made it, with what, and that it has not changed since.

The package c2pa-python does the work, and only if a certificate is configured. Reading and signing use no network
except for the time-stamping authority, if one is configured. A key never leaves the process that reads it: settings,
rows and messages only contain its path.
"""

import io
import json
import logging
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from pipeline import __version__
from pipeline.common.errors import ClipError, RefusedError
from pipeline.common.options import SettingError
from pipeline.media.presets import MOV, MP4, MXF, Container
from pipeline.media.settings import ProvenanceSettings
from pipeline.media.xmp import SOURCE_TYPE
from pipeline.storage.setting_files import read_setting
from pipeline.storage.trouble import reason
from pipeline.storage.uris import absolute

logger = logging.getLogger(__name__)

ACTION = "c2pa.created"
AGENT = "Floatcast"
MODEL, MODEL_HASH = "floatcast.model", "floatcast.model_hash"
"""Parameters of the action: C2PA has no standard names for them."""

PLACED, URN = "c2pa.placed", "urn:sha256:"
"""Action of what was put into a file, and how the picture that it was put into is named: by its hash."""

PURPOSES = ("1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.36", "1.3.6.1.4.1.62558.2.1")
"""Extended key usages that a certificate may have: emailProtection, documentSigning, C2PA claim signing. By default the
package accepts only the first.
"""

FIT = (
    "provenance.certificate must be a PEM chain with the signer's certificate first. That certificate must not be "
    "self-signed, must be valid today, and needs the key usage digitalSignature and the extended key usage "
    "emailProtection, documentSigning or C2PA claim signing. provenance.private_key must be its key in PEM (PKCS#8 "
    "without a password; openssl pkcs8 -topk8 -nodes converts it), and provenance.algorithm that of the key. If "
    "provenance.timestamp_url is given, it must answer"
)


class CertificateError(RefusedError):
    """A configuration that cannot sign; the message says what to change."""


@dataclass(frozen=True)
class Credentials:
    """The contents of a file's signed claim."""

    valid: bool
    """Whether the file is unchanged since it was signed with a suitable certificate. This does not check whether its
    issuer is trusted.
    """
    problems: tuple[str, ...]
    """C2PA codes of what is wrong; an unknown issuer is signingCredential.untrusted."""
    title: str | None
    source_type: str | None
    """Source type of the action c2pa.created, to which the following fields also belong."""
    agent: str | None
    model: str | None
    model_hash: str | None
    source_sha256: str | None = None
    """SHA-256 of the picture that is an ingredient of the file; None if there is none."""


class Signer:
    """Signs finished files, in any thread.

    It signs one file at a time, because the package holds the whole file in memory: measured were 390 MB for 400 MB.
    """

    def __init__(self, settings: ProvenanceSettings) -> None:
        """Read the certificate and key, and sign a one-pixel image. Raises CertificateError."""
        self._c2pa = _package()
        chain, key = _read("certificate", settings.certificate), _read("private_key", settings.private_key)
        if b"PRIVATE KEY" in chain:
            raise CertificateError(
                f"provenance.certificate: {settings.certificate} contains a private key, but certificates are "
                "published: give a file that contains only certificates"
            )
        self._context = _context(self._c2pa)
        self._lock = threading.Lock()
        pixel = io.BytesIO()
        Image.new("RGB", (1, 1)).save(pixel, "PNG")
        pixel.seek(0)
        try:
            info = self._c2pa.C2paSignerInfo(settings.algorithm, chain, key, settings.timestamp_url or None)
            self._signer = self._c2pa.Signer.from_info(info)
            self._sign(_claim("trial", "", ""), "image/png", pixel, io.BytesIO())
        except self._c2pa.C2paError as error:
            logger.info("the trial signature failed", exc_info=error)
            stamped = f" with time stamps of {settings.timestamp_url}" if settings.timestamp_url else ""
            raise CertificateError(f"{settings.certificate} cannot sign{stamped}: {FIT}") from None

    def sign(self, path: Path, *, clip_id: str, model: str, model_hash: str, source_sha256: str | None = None) -> None:
        """Sign an MP4 or MOV in place and read the claim back.

        `source_sha256` is that of the picture which the file shows around what was made.
        If this fails, it raises ClipError signing_failed and leaves the file as it is.
        """
        signed = path.with_name(f"{path.stem}.signed{path.suffix}")
        try:
            with self._lock, path.open("rb") as source, signed.open("w+b") as target:
                self._sign(_claim(clip_id, model, model_hash, source_sha256), _kind(path), source, target)
            found = read_credentials(signed)
            wanted = (clip_id, SOURCE_TYPE, AGENT, model, model_hash, source_sha256)
            if found is None or not found.valid or _told(found) != wanted:
                raise ClipError(
                    "signing_failed",
                    "the claim in the signed file differs from the claim that was signed: please report it",
                )
            signed.replace(path)
        except (self._c2pa.C2paError, OSError, ValueError) as error:
            logger.error("signing of clip %s", clip_id, exc_info=error)
            why = "check that provenance.certificate is still valid, and that provenance.timestamp_url answers"
            why = reason(error) if isinstance(error, OSError) else why
            raise ClipError("signing_failed", f"the file could not be signed: {why}") from None
        finally:
            signed.unlink(missing_ok=True)

    def _sign(self, claim: dict[str, Any], kind: str, source: Any, target: Any) -> None:
        self._c2pa.Builder(claim, self._context).sign(self._signer, kind, source, target)


def open_signer(settings: ProvenanceSettings | None, container: Container = MP4) -> Signer | None:
    """A signer for files of this kind, or None if no certificate is configured. Raises CertificateError."""
    if settings is None or not settings.signs:
        return None
    check_signable(container)
    return Signer(settings)


def check_signing(settings: ProvenanceSettings, container: Container = MP4) -> ProvenanceSettings:
    """The settings for workers, which have another working directory, after a trial on this machine.

    Raises CertificateError.
    """
    if not settings.signs:
        return settings
    check_signable(container)
    settings = replace(settings, certificate=absolute(settings.certificate), private_key=absolute(settings.private_key))
    Signer(settings)
    return settings


def check_signable(container: Container) -> None:
    """Raise CertificateError for a container that cannot be signed."""
    if container == MXF:
        raise CertificateError(
            "provenance.certificate: MXF files cannot be signed (C2PA has no place in them): set a video.preset or "
            "video.container that gives MP4 or MOV, or leave the certificate out"
        )


def read_credentials(path: Path) -> Credentials | None:
    """The newest claim in any MP4 or MOV, checked against the file; None if there is none.

    Raises ValueError if the file or the claim cannot be read, and CertificateError without c2pa-python.
    """
    c2pa = _package()
    try:
        with path.open("rb") as file, c2pa.Reader(_kind(path), file, context=_context(c2pa)) as reader:
            report: dict[str, Any] = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return None
    except c2pa.C2paError as error:
        raise ValueError(f"{path.name} cannot be read as a signed video") from error
    try:
        return _credentials(report)
    except (AttributeError, KeyError, TypeError) as error:  # a claim may contain anything
        raise ValueError(f"the claim in {path.name} has an unexpected structure") from error


def _kind(path: Path) -> str:
    return MOV.mime if path.suffix == MOV.suffix else MP4.mime


def _credentials(report: dict[str, Any]) -> Credentials:
    """Credentials from the package's report on a file."""
    claim = report["manifests"][report["active_manifest"]]
    # Version 2 of a claim has actions.v2, older versions have actions.
    lists = [one["data"] for one in claim.get("assertions", ()) if one["label"].startswith("c2pa.actions")]
    actions = [action for one in lists for action in one.get("actions", ())]
    created: dict[str, Any] = next((action for action in actions if action.get("action") == ACTION), {})
    agent, parameters = created.get("softwareAgent"), created.get("parameters") or {}
    names = [str(one.get("instance_id", "")) for one in claim.get("ingredients", ())]
    return Credentials(
        valid=report.get("validation_state") in ("Valid", "Trusted"),
        problems=tuple(one["code"] for one in report.get("validation_status", ())),
        title=claim.get("title"),
        source_type=created.get("digitalSourceType"),
        agent=agent.get("name") if isinstance(agent, dict) else agent,
        model=parameters.get(MODEL),
        model_hash=parameters.get(MODEL_HASH),
        source_sha256=next((name.removeprefix(URN) for name in names if name.startswith(URN)), None),
    )


def _told(found: Credentials) -> tuple[str | None, ...]:
    return found.title, found.source_type, found.agent, found.model, found.model_hash, found.source_sha256


def _claim(clip_id: str, model: str, model_hash: str, source_sha256: str | None = None) -> dict[str, Any]:
    agent = {"name": AGENT, "version": __version__}
    action = {
        "action": ACTION,
        "digitalSourceType": SOURCE_TYPE,
        "softwareAgent": agent,
        "parameters": {MODEL: model, MODEL_HASH: model_hash},
    }
    claim: dict[str, Any] = {"title": clip_id, "claim_generator_info": [agent]}
    placed: list[dict[str, Any]] = []
    if source_sha256 is not None:
        name = f"{URN}{source_sha256}"
        claim["ingredients"] = [
            {"title": "source picture", "relationship": "componentOf", "instance_id": name, "label": "picture"}
        ]
        placed = [{"action": PLACED, "parameters": {"ingredientIds": ["picture"]}}]
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [action, *placed]}}
    return claim | {"assertions": [actions]}


def _package() -> ModuleType:
    try:
        import c2pa
    except ImportError:
        raise CertificateError(
            "provenance.certificate: signing needs c2pa-python, which is not installed here: run python -m pip "
            "install c2pa-python on every node"
        ) from None
    return c2pa


def _context(c2pa: ModuleType) -> Any:
    settings = {
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
        },  # a file from elsewhere must not cause network requests
        "trust": {"trust_config": "\n".join(PURPOSES) + "\n"},
    }
    return c2pa.Context(c2pa.Settings.from_dict(settings))


def _read(key: str, uri: str) -> bytes:
    try:
        return read_setting(f"provenance.{key}", uri)
    except SettingError as error:
        raise CertificateError(f"{error}; the file must be on the starting machine and on every node") from None
