"""Where a job runs its stages: a Ray that this process has is used and left as it is."""

import os
import subprocess
import sys

import pytest
import ray

from pipeline.cluster.connect import connected, open_executor
from pipeline.cluster.serial import SerialExecutor
from pipeline.common.errors import ClusterError


@pytest.mark.slow
def test_a_cluster_that_this_process_is_connected_to_is_used_and_left_connected(local_ray):
    with open_executor("auto", "") as executor:
        assert executor.cpus == local_ray["CPU"]
    with connected(ray.get_runtime_context().gcs_address):
        pass
    assert ray.is_initialized()


@pytest.mark.slow
def test_another_cluster_than_the_one_this_process_is_connected_to_is_refused(local_ray):
    refused = pytest.raises(ClusterError, match=r"already connected to .*, but address=10\.0\.0\.9:6379 names another")
    with refused, connected("10.0.0.9:6379"):
        pass
    assert ray.is_initialized()


def test_serial_stages_need_no_ray():
    with open_executor("serial", "") as executor:
        assert isinstance(executor, SerialExecutor)


ALONE = """
import os, sys
import ray
from pipeline.cluster.connect import only_this_machine

given, names = sys.argv[1], ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
before = ray._private.services.get_node_ip_address()
tokens = set()
for _ in range(2):
    with only_this_machine():
        assert ray._private.services.get_node_ip_address() == "127.0.0.1"  # Ray's processes listen there
        assert os.environ["RAY_AUTH_MODE"] == (given or "token")
        tokens.add(os.environ.get("RAY_AUTH_TOKEN", ""))
        mode = ray._raylet.get_authentication_mode()
        assert mode == getattr(ray._raylet.AuthenticationMode, (given or "token").upper())
    assert [os.environ.get(name, "") for name in names] == [given, "", ""]
    assert ray._private.services.get_node_ip_address() == before
assert sorted(map(len, tokens)) == ([0] if given else [64, 64])
"""


@pytest.mark.parametrize("given", ["", "disabled"])
def test_a_ray_that_is_started_here_is_of_this_machine_alone(given):
    """In a process of its own: Ray's token belongs to a process, and a Ray that this one has would lose its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    environment |= {"RAY_AUTH_MODE": given} if given else {}  # what the user has set stays
    done = subprocess.run([sys.executable, "-c", ALONE, given], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
