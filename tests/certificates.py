"""Certificates as an authority gives them out, for the tests of signing."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

EMAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION
DOCUMENTS = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
CLAIMS = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
SERVER = ExtendedKeyUsageOID.SERVER_AUTH

KEYS = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
    "ps384": lambda: rsa.generate_private_key(65537, 2048),
    "ps512": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}

USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True)
class Identity:
    """A leaf and its authority; all PEM."""

    leaf: bytes
    authority: bytes
    key: bytes

    def write(self, folder: Path, chain: bytes | None = None, key: bytes | None = None) -> dict[str, str]:
        """Settings `certificate` and `private_key` of files with these contents."""
        (folder / "chain.pem").write_bytes(self.leaf + self.authority if chain is None else chain)
        (folder / "key.pem").write_bytes(self.key if key is None else key)
        return {"certificate": str(folder / "chain.pem"), "private_key": str(folder / "key.pem")}


def identity(
    algorithm: str = "es256", purpose: x509.ObjectIdentifier | None = EMAIL, days: int = 30, usage: str = USAGES[0]
) -> Identity:
    """A signer that the authority of these tests vouches for, until `days` from now."""
    (root, authority), own = _authority(), KEYS[algorithm]()
    leaf = _certificate("Test studio", own, root, days).add_extension(_usage(usage), True)
    leaf = leaf.add_extension(x509.BasicConstraints(False, None), True)
    if purpose is not None:
        leaf = leaf.add_extension(x509.ExtendedKeyUsage([purpose]), False)
    return Identity(_signed(leaf, root), authority, pem(own))


@cache
def _authority():
    """(key, certificate as PEM): one for all tests of a process."""
    root = KEYS["es256"]()
    certificate = _certificate("Test authority", root, root, days=99).add_extension(_usage(*USAGES[5:7]), True)
    return root, _signed(certificate.add_extension(x509.BasicConstraints(True, None), True), root)


def _signed(certificate: x509.CertificateBuilder, root) -> bytes:
    return certificate.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def pem(key, kind=serialization.PrivateFormat.PKCS8, password: bytes = b"") -> bytes:
    """A private key as a file."""
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, locked)


def _usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in USAGES})


def _certificate(name: str, key, issuer, days: int) -> x509.CertificateBuilder:
    def named(text):
        parts = {NameOID.ORGANIZATION_NAME: "Floatcast tests", NameOID.COMMON_NAME: text}
        return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts.items()])

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named("Test authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), False)
    )
