import pytest

from tests.tiny import save_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a complete, very small model."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
