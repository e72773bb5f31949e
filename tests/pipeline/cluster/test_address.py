"""Addresses that lead nowhere: known within seconds, with the place where they were given."""

import contextlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipeline.cluster.address import Address, check_cluster, check_dashboard, cluster_address, dashboard_address
from pipeline.cluster.connect import connected
from pipeline.common.errors import ClusterError
from tests.running import run_job


@pytest.fixture(autouse=True)
def no_addresses(monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed():
    """host:port of a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}"


@contextlib.contextmanager
def listening():
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_the_setting_comes_before_the_environment_and_both_before_this_machine(monkeypatch):
    assert cluster_address("") is None
    assert cluster_address("local") is None
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert str(cluster_address("")) == "head:6379 ($RAY_ADDRESS)"
    assert str(cluster_address("ray://other:10001")) == "ray://other:10001 (address=)"
    assert str(dashboard_address("")) == "head:6379 ($RAY_ADDRESS)"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:8265")
    assert str(dashboard_address("")) == "http://head:8265 ($RAY_API_SERVER_ADDRESS)"


def test_a_dashboards_address_is_no_cluster_to_join(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")  # as the guide exports it for submissions
    with pytest.raises(ClusterError, match=r"\$RAY_ADDRESS\) is the address of a cluster's dashboard.*jobs\.submit"):
        cluster_address("")


def test_a_job_ends_at_once_where_no_cluster_answers(closed, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", closed)
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at .*\$RAY_ADDRESS\): the connection is refused"):
        connected("").__enter__()
    with pytest.raises(ClusterError, match="address="):
        connected(f"ray://{closed}").__enter__()


@pytest.mark.parametrize("address", ["head", "head:", "head:port", "ray://head", ":6379"])
def test_what_is_no_address_is_refused_with_an_example(address):
    with pytest.raises(ClusterError, match="such as head:6379"):
        check_cluster(Address(address, "address="))


def test_a_cluster_that_listens_is_left_to_ray():
    with listening() as address:
        check_cluster(Address(address, "address="))


class _Unauthorised(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(401)

    def log_message(self, *args):
        pass


def test_a_dashboard_that_asks_for_a_token_answers(closed):
    with HTTPServer(("127.0.0.1", 0), _Unauthorised) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        check_dashboard(Address(f"http://127.0.0.1:{server.server_port}", "--address"))
        thread.join()
    with pytest.raises(ClusterError, match=r"no Ray dashboard answers at .*--address\): the connection is refused"):
        check_dashboard(Address(f"http://{closed}", "--address"))


def test_a_dashboard_that_never_answers_is_not_waited_for():
    with listening() as address, pytest.raises(ClusterError, match="no answer in"):
        check_dashboard(Address(f"http://{address}", "--address"), seconds=0.2)


def test_a_submission_says_where_its_address_came_from(closed, tmp_path, monkeypatch):
    refused = run_job("submit", "--address", f"http://{closed}", "--tries", "1", "--", "manifest=m.csv")
    assert refused.returncode == 3
    assert f"http://{closed} (--address)" in refused.stderr
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    refused = run_job("submit", "--", "manifest=m.csv")
    assert refused.returncode == 3
    assert "no Ray is running on this machine: give --address" in refused.stderr
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(closed)  # left by a Ray that was killed
    refused = run_job("submit", "--", "manifest=m.csv")
    assert refused.returncode == 3
    assert "the last Ray that was started on this machine" in refused.stderr
