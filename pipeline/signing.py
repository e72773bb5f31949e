"""C2PA: with a certificate configured, each delivered file carries signed content credentials (C2PA 2.x).

They say the same as the XMP packet (`pipeline.provenance`), and anybody can check that neither they nor the film were
changed. Signing is the last step on the file. The package `c2pa-python` is an extra: `pip install 'floatcast[c2pa]'`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ClipError
from pipeline.provenance import SOURCE_TYPE, generator
from pipeline.settings import ProvenanceSettings, SettingError
from pipeline.storage import read_bytes

MODEL = "org.floatcast.model"
"""Label of our own assertion: name and hash of the model."""


@dataclass(frozen=True)
class Credentials:
    """What a file's content credentials say, and whether that holds."""

    valid: bool
    """Of signature and contents; whether the certificate's root is trusted is for who reads it to say."""
    problems: tuple[str, ...]
    title: str
    source_types: tuple[str, ...]
    """Of its actions `c2pa.created`."""
    model_hash: str


class Signer:
    """Certificate and key of one worker. Neither is pickled, logged or shown."""

    def __init__(self, settings: ProvenanceSettings) -> None:
        """Raises SettingError for a key or certificate that is missing or does not sign."""
        try:
            import c2pa
        except ImportError:
            raise SettingError(
                "certificate", "signing needs the package c2pa-python: pip install c2pa-python, on every node"
            ) from None
        self._c2pa = c2pa
        chain, key = (_pem(name, getattr(settings, name)) for name in ("certificate", "private_key"))
        try:
            info = c2pa.C2paSignerInfo(settings.algorithm, chain, key, settings.timestamp_url or None)
            self._signer = c2pa.Signer.from_info(info)
        except Exception as error:  # the native library has one exception for all; none may carry the key
            raise SettingError(
                "certificate",
                f"{settings.certificate} and provenance.private_key do not sign with {settings.algorithm} "
                f"({type(error).__name__}): give a PEM chain, the signer's first, and its unencrypted PKCS#8 key",
            ) from None

    def sign(self, path: Path, *, clip_id: str, model: str, model_hash: str) -> None:
        """Put content credentials into an MP4, in place, and read them back. Raises ClipError signing_failed."""
        name, _, version = generator().partition(" ")
        agent = {"name": name, "version": version}
        manifest: dict[str, Any] = {
            "claim_generator_info": [agent],
            "title": clip_id,
            "format": "video/mp4",
            "assertions": [
                {
                    "label": "c2pa.actions.v2",
                    "data": {
                        "actions": [
                            {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "softwareAgent": agent}
                        ]
                    },
                },
                {"label": MODEL, "data": {"name": model, "sha256": model_hash}},
            ],
        }
        signed = path.with_suffix(".signed.mp4")
        try:
            with self._c2pa.Builder(json.dumps(manifest)) as builder:
                builder.sign_file(str(path), str(signed), self._signer)
            found = read_credentials(signed)
            if found is None or not found.valid or (found.title, found.model_hash) != (clip_id, model_hash):
                problems = "; ".join(found.problems) if found else "there are none"
                raise ClipError("signing_failed", f"the credentials do not hold when they are read back: {problems}")
            signed.replace(path)
        except ClipError:
            raise
        except Exception as error:  # the native library has one exception for all
            text = f"the file could not be signed ({type(error).__name__}: {error}): check the certificate's validity"
            raise ClipError("signing_failed", text) from error
        finally:
            signed.unlink(missing_ok=True)


def read_credentials(path: Path) -> Credentials | None:
    """Content credentials of a file, checked against its contents; None where it has none."""
    import c2pa

    try:
        with c2pa.Reader(str(path)) as reader:
            store: dict[str, Any] = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return None
    claim = store["manifests"][store["active_manifest"]]
    data = {assertion["label"].partition("__")[0]: assertion["data"] for assertion in claim["assertions"]}
    actions = data.get("c2pa.actions.v2", data.get("c2pa.actions", {})).get("actions", ())
    # A root that nobody here knows is the reader's to trust; all else must hold.
    faults = [
        status for status in store.get("validation_status") or () if status["code"] != "signingCredential.untrusted"
    ]
    return Credentials(
        valid=not faults,
        problems=tuple(f"{status['code']}: {status.get('explanation', '')}" for status in faults),
        title=claim.get("title", ""),
        source_types=tuple(a.get("digitalSourceType", "") for a in actions if a["action"] == "c2pa.created"),
        model_hash=data.get(MODEL, {}).get("sha256", ""),
    )


def _pem(key: str, uri: str) -> bytes:
    try:
        data = read_bytes(uri)
    except Exception as error:  # every storage client has exceptions of its own
        raise SettingError(key, f"{uri} could not be read: {type(error).__name__}") from None
    if data is None or b"-----BEGIN" not in data:
        raise SettingError(key, f"{uri} {'does not exist' if data is None else 'is not PEM'}")
    return data
