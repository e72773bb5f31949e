"""Sends one event to its receiver: signed, over a connection to an address that was checked, without redirects.

The headers are those of Standard Webhooks (https://www.standardwebhooks.com, version 1), so that its libraries verify
them: `webhook-id`, `webhook-timestamp` (seconds since 1970) and `webhook-signature`, which is `v1,` and the base64 of
HMAC-SHA256 over `<id>.<timestamp>.<body>`.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import os
import socket
import ssl
import time
from dataclasses import dataclass, field

from pipeline import __version__
from pipeline.common.options import SettingError
from pipeline.run.notify_event import Event
from pipeline.run.notify_settings import PREFIX, NotifySettings
from pipeline.storage.setting_files import read_setting
from pipeline.storage.uris import absolute

SECRET = "FLOATCAST_NOTIFY_SECRET"
"""Variable of the environment with the key. Messages and tables never show its value, as that of every `..._SECRET`."""

LEAST = 16
"""Bytes of the shortest key."""

LONGEST_PAUSE = 60.0
"""A receiver that asks for a longer pause than this (Retry-After, s) is asked again earlier."""

LATER = frozenset({408, 425, 429})
"""Answers other than 5xx after which the same event may be accepted later."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RefusedEventError(Exception):
    """The receiver does not take the event, or may not have it; trying again does not help without a change."""


class UnreachableError(Exception):
    """The receiver could not take the event now."""

    def __init__(self, problem: str, pause: float = 0.0) -> None:
        super().__init__(problem)
        self.pause = pause
        """Seconds for which the receiver wants to be left alone."""


def read_key(settings: NotifySettings) -> bytes:
    """The key that signs the events. Raises SettingError, whose message does not show it, and StorageError."""
    if settings.secret_file:
        text = read_setting("secret_file", absolute(settings.secret_file)).decode("utf-8", "surrogateescape").strip()
        where = "the file"
    else:
        text, where = os.environ.get(SECRET, "").strip(), f"${SECRET}"
        if not text:
            raise SettingError("secret_file", f"events need a key: give a file that holds one, or set {where}")
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else b""
    except binascii.Error:
        raise SettingError("secret_file", f"the key in {where} begins with {PREFIX}, but is not base64") from None
    key = key or text.encode("utf-8", "surrogateescape")
    if len(key) < LEAST:
        raise SettingError(
            "secret_file", f"the key in {where} has {len(key)} bytes; it must have {LEAST} or more: make a random one"
        )
    return key


def signature(key: bytes, identity: str, timestamp: int, body: bytes) -> str:
    """Value of the header `webhook-signature`."""
    signed = hmac.digest(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


@dataclass
class Receiver:
    """Who gets the events. For one thread, except `abort`."""

    settings: NotifySettings
    key: bytes = field(repr=False)
    _connection: "_Connection | None" = field(default=None, repr=False)
    _tls: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """Its host, for messages: the rest of the address may be a secret."""
        return self.settings.address.hostname or ""

    def post(self, event: Event) -> None:
        """Deliver an event. Raises RefusedEventError and UnreachableError."""
        parts, body, now = self.settings.address, event.body.encode(), int(time.time())
        headers = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "User-Agent": f"floatcast/{__version__}",
            "webhook-id": event.id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self.key, event.id, now, body),
            "Connection": "close",
        }
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            self._connection = self._opened()
            self._connection.request("POST", target, body, headers)
            answer = self._connection.getresponse()
            self._check(answer.status, answer.getheader("Retry-After") or "")
        except TimeoutError:
            raise UnreachableError(f"{self.host} did not answer in {self.settings.timeout_seconds:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self.host} {_why(error)}") from error
        finally:
            if self._connection is not None:
                self._connection.close()

    def abort(self) -> None:
        """End a request that is under way in another thread."""
        connection = self._connection
        if connection is not None and (open_socket := connection.sock) is not None:
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)

    def _check(self, status: int, retry_after: str) -> None:
        if 200 <= status < 300:
            return
        said = f"{self.host} answered {status}"
        if status >= 500 or status in LATER:
            pause = min(float(retry_after), LONGEST_PAUSE) if retry_after.isdecimal() else 0.0
            raise UnreachableError(said, pause)
        if 300 <= status < 400:
            said += " (redirects are not followed: give the address to which it leads as notify.url)"
        raise RefusedEventError(said)

    def _opened(self) -> "_Connection":
        """A connection to one of the host's addresses, all of which are allowed.

        The name is resolved once, so that it cannot mean another address after the check.
        """
        parts = self.settings.address
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = socket.getaddrinfo(self.host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        for address in addresses:
            if problem := address_problem(address, self.settings):
                raise RefusedEventError(f"{self.host} has the address {address}, {problem}")
        if parts.scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
        tls = self._tls if parts.scheme == "https" else None
        return _Connection(self.host, port, addresses, self.settings.timeout_seconds, tls)


def _why(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "is a name that was not found: check notify.url, and the name server of this machine"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has a certificate that is not trusted here: {error.verify_message}"
    if isinstance(error, ConnectionRefusedError):
        return "refused the connection"
    return "broke the connection off, or did not answer as a web server does"


class _Connection(http.client.HTTPConnection):
    """A connection to addresses that were resolved before."""

    def __init__(
        self, host: str, port: int, addresses: list[str], timeout: float, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(host, port, timeout=timeout)
        self._addresses, self._context = addresses, tls

    def connect(self) -> None:
        """Connect to the first address that answers."""
        for i, address in enumerate(self._addresses):
            try:
                self.sock = socket.create_connection((address, self.port), self.timeout)
                break
            except OSError:
                if i == len(self._addresses) - 1:
                    raise
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def address_problem(address: str, settings: NotifySettings) -> str:
    """Why no event may be sent to an IP address, as a clause; empty if it may. An address inside another one counts."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return address_problem(str(inner), settings)
    if ip.is_loopback:
        return "" if settings.allow_loopback else "which is this machine itself (notify.allow_loopback)"
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return "to which events are never sent"
    if not ip.is_global:
        return "" if settings.allow_private else "which is not public (notify.allow_private)"
    return ""
