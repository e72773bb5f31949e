"""Files of users' networks: a pinned one is read only if it is the file that was meant."""

import hashlib
from dataclasses import fields

import pytest

from pipeline.common.options import SettingError
from pipeline.storage.pinned import read_pinned
from pipeline.storage.uris import absolute

DATA = b"weights"
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=["disk", "disk as URI", "s3"])
def file(request, tmp_path):
    if request.param == "s3":
        import s3fs

        uri = f"{request.getfixturevalue('s3')}/networks/a net.pt2"
        s3fs.S3FileSystem().pipe_file(uri, DATA)
        return uri
    (tmp_path / "a net.pt2").write_bytes(DATA)
    return f"file://{tmp_path}/a net.pt2" if "URI" in request.param else str(tmp_path / "a net.pt2")


@pytest.mark.parametrize("pin", ["", f"#sha256={SHA}", f"#SHA256={SHA.upper()}"])
def test_a_file_is_read_whether_it_is_pinned_or_not(file, pin):
    assert read_pinned("network", absolute(file + pin)) == DATA


def test_another_file_than_the_pinned_one_is_refused(file):
    wrong = "0" * 64
    with pytest.raises(SettingError, match=f"network: .*a net.pt2 has the SHA-256 {SHA}, not {wrong} .* is not loaded"):
        read_pinned("network", absolute(f"{file}#sha256={wrong}"))


@pytest.mark.parametrize("pin", ["", "abc", SHA[:-1], SHA + "0", "g" * 64, SHA + "#x"])
def test_a_pin_that_is_no_hash_is_refused(tmp_path, pin):
    (tmp_path / "net").write_bytes(DATA)
    with pytest.raises(SettingError, match=r"network: #sha256= must be followed by the 64 hexadecimal digits"):
        read_pinned("network", f"{tmp_path}/net#sha256={pin}")


def test_a_file_that_does_not_exist_or_is_a_folder_is_said_with_its_setting(tmp_path):
    with pytest.raises(SettingError, match=r"network: .*none does not exist"):
        read_pinned("network", f"{tmp_path}/none#sha256={SHA}")
    with pytest.raises(SettingError, match=r"network: .* is a folder, not a file"):
        read_pinned("network", str(tmp_path))


def test_the_help_of_every_network_says_what_loading_it_does_and_how_to_pin_it():
    from jobs.evaluate import EvaluateJob
    from pipeline.evaluation.networks import KEYS
    from pipeline.qc.settings import QcSettings

    helps = {f.name: f.metadata.get("help", "") for part in (EvaluateJob, QcSettings) for f in fields(part)}
    for key in (*KEYS, "identity_model", "syncnet"):
        assert "FILE#sha256=HEX refuses" in helps[key]
        assert key == "syncnet" or "torch.export.save, whose code runs when it is loaded" in helps[key]
