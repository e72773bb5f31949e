import pytest

from tests.fake_cuda.device import fake_cuda, load_guard, new_mode


@pytest.fixture(scope="session")
def cuda_mode(tmp_path_factory):
    """The mode of all fake tensors of this test process."""
    load_guard(tmp_path_factory.mktemp("guard"))
    return new_mode()


@pytest.fixture
def cuda(cuda_mode):
    """The test runs with fake CUDA tensors."""
    with fake_cuda(cuda_mode):
        yield
