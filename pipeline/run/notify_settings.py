"""Settings of the events that a run sends: where to, how they are signed, and which addresses are allowed."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from pipeline.common.options import SettingError, check_ranges, option

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts for which `notify.allow_loopback` allows http."""

PREFIX = "whsec_"
"""Keys of Standard Webhooks begin with it, and are base64."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass
class NotifySettings:
    """Where the events of a run are sent; nothing is sent without `url`."""

    url: str = option(
        "",
        "Send a signed JSON event for each clip and for the start and end of the run to this https:// address. "
        "jobs/README.md says what is in an event and how it is verified.",
    )
    allowed_hosts: list[str] = option(
        [], "Hosts that events may be sent to, such as [hooks.example.com]; the empty list allows none."
    )
    secret_file: str = option(
        "",
        "File with the key that signs the events, local or s3://; if empty, the key is the value of the environment "
        "variable FLOATCAST_NOTIFY_SECRET.",
    )
    allow_loopback: bool = option(
        False, "Also send events to this machine itself, for which http:// is allowed as well."
    )
    allow_private: bool = option(
        False, "Also send events to hosts whose addresses are private, such as 10.0.0.0/8 and fd00::/8."
    )
    timeout_seconds: float = option(10.0, "Longest wait for each step of a request, s.", least=0.1, most=300)
    wait_seconds: float = option(
        10.0,
        "Longest wait at the end of a run for events that are not delivered yet, s; the next run of the same output "
        "sends the rest.",
        least=0,
        most=3600,
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.secret_file.startswith(PREFIX):
            raise SettingError(
                "secret_file",
                "this is a key, and not the name of a file: write the key into a file, and make a new one",
            )
        for host in self.allowed_hosts:
            if not isinstance(host, str) or not _is_host(host):
                raise SettingError(
                    "allowed_hosts",
                    f"{host!r} is not the name of a host: give it without https://, port and path, and without *",
                )
        if self.url:
            self._check_url()

    def _check_url(self) -> None:
        """Raise SettingError unless events may be sent to `url`. Its path is not shown, because it may be a secret."""
        try:
            parts, port = self.address, self.address.port
        except ValueError:
            raise SettingError("url", "this is not an address: write https://host/path") from None
        host = parts.hostname or ""
        if not host or port == 0 or not _is_host(host):
            raise SettingError("url", "this is not an address: write https://host/path, other alphabets in Punycode")
        if parts.username is not None or parts.password is not None or "@" in parts.netloc:
            raise SettingError("url", f"the address of {host} contains a user: remove it, because events are signed")
        if parts.fragment or not (self.url.isascii() and self.url.isprintable()) or " " in self.url:
            raise SettingError(
                "url", f"the address of {host} has a part after # or a character that must be written as %XX"
            )
        if host not in {allowed.lower().rstrip(".") for allowed in self.allowed_hosts}:
            allowed = ", ".join(self.allowed_hosts) or "none"
            raise SettingError("url", f"{host} is not among the allowed hosts (notify.allowed_hosts): {allowed}")
        if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK and self.allow_loopback):
            raise SettingError(
                "url",
                f"events are sent to {host} with https only; http is for this machine itself, with "
                "notify.allow_loopback=true",
            )

    @property
    def address(self) -> SplitResult:
        """The parts of `url`."""
        return urlsplit(self.url)


def _is_host(text: str) -> bool:
    """Whether a text is the name of a host or an IP address."""
    try:
        return bool(_NAME.fullmatch(text) or ipaddress.ip_address(text))
    except ValueError:
        return False
