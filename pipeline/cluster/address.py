"""Addresses of Ray clusters: where one was given, what kind it is, and whether anything answers there.

Ray itself waits for ten minutes for a cluster that does not exist, and its message does not say where the address came
from. This module needs nothing but the standard library.
"""

import http.client
import os
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipeline.common.errors import ClusterError

PROBE_SECONDS = 10.0
"""For so long something must answer."""

ENVIRONMENT = "RAY_ADDRESS"


@dataclass(frozen=True)
class Address:
    """An address, and who gave it."""

    value: str
    source: str

    def __str__(self) -> str:
        return f"{self.value} ({self.source})"


def cluster_address(given: str) -> Address | None:
    """The cluster that a job joins: the setting `address`, or $RAY_ADDRESS; None where Ray starts on this machine.

    Raises ClusterError for the address of a dashboard, to which jobs are only submitted.
    """
    address = _first(("address=", given), (f"${ENVIRONMENT}", os.environ.get(ENVIRONMENT, "")))
    if address is None or address.value == "local":
        return None
    if urlsplit(address.value).scheme in ("http", "https"):
        raise ClusterError(
            f"{address} is the address of a cluster's dashboard, to which jobs are submitted: run python -m "
            f"jobs.submit -- with the same keys; or unset {ENVIRONMENT}, or give address=local, to run on this machine"
        )
    return address


def check_cluster(address: Address, seconds: float = PROBE_SECONDS) -> None:
    """Raise ClusterError if nothing answers at host:port or ray://host:port; `auto` is left to Ray."""
    if address.value == "auto":
        return
    place = urlsplit(address.value if "://" in address.value else f"//{address.value}")
    try:
        host, port = place.hostname, place.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ClusterError(f"{address} is not of the form host:port or ray://host:port, such as head:6379")
    try:
        socket.create_connection((host, port), seconds).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at {address}: {_reason(error)}; is the cluster running, and can this machine "
            "reach that port?"
        ) from error


def check_dashboard(address: Address, seconds: float = PROBE_SECONDS) -> None:
    """Raise ClusterError if no web server answers at an http:// address; what it answers does not matter."""
    try:
        urllib.request.urlopen(address.value.rstrip("/") + "/api/version", timeout=seconds).close()
    except urllib.error.HTTPError:  # it asks for a token, for example
        pass
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ClusterError(
            f"no Ray dashboard answers at {address}: {_reason(cause)}; is the cluster running, and its port 8265 "
            "reachable from here?"
        ) from error


def dashboard_address(given: str) -> Address | None:
    """Where `jobs.submit` submits to: `--address`, $RAY_API_SERVER_ADDRESS or $RAY_ADDRESS; None without any."""
    return _first(
        ("--address", given),
        *((f"${name}", os.environ.get(name, "")) for name in ("RAY_API_SERVER_ADDRESS", ENVIRONMENT)),
    )


def _first(*places: tuple[str, str]) -> Address | None:
    return next((Address(value, source) for source, value in places if value), None)


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {PROBE_SECONDS:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "it is no address of a web server" if isinstance(error, ValueError) else "the connection was closed"
