"""Files of networks that the user names in a setting, which may be pinned: `file#sha256=HEX`.

Loading a file of `torch.export.save` can run code that is in it. A pin makes sure that it is the file that somebody has
looked at, wherever it is kept; the bytes that are compared are those that are loaded.
"""

import hashlib
import re
from pathlib import Path

from pipeline.common.options import SettingError
from pipeline.storage.setting_files import read_setting
from pipeline.storage.uris import shown

SIGN = "#sha256="


def read_pinned(key: str, value: str) -> bytes:
    """The file that the setting `key` names: a path or URI with or without a pin.

    Raises SettingError if it cannot be read or is not what its pin says, and StorageError.
    """
    place = value.lower().rfind(SIGN)
    if place < 0:
        return read_setting(key, value)
    uri, pin = value[:place], value[place + len(SIGN) :].strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", pin):
        raise SettingError(
            key,
            f"{SIGN} must be followed by the 64 hexadecimal digits that sha256sum prints, not by {len(pin)} characters",
        )
    data = read_setting(key, uri)
    found = hashlib.sha256(data).hexdigest()
    if pin != found:
        raise SettingError(
            key,
            f"{shown(uri)} has the SHA-256 {found}, not {pin} as the setting says, so it is not loaded: give the file "
            "that is meant, or this SHA-256 if you trust the file",
        )
    return data


def keep_pinned(key: str, value: str, folder: Path) -> Path | None:
    """A copy of that file in a local folder, for child processes; None if the setting is empty."""
    if not value:
        return None
    copy = folder / key
    copy.write_bytes(read_pinned(key, value))
    return copy
