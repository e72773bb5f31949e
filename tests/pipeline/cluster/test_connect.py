"""Where a job runs its stages: a Ray that this process has is used and left as it is."""

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
