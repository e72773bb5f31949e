"""Files of networks that the user names in a setting, which may be pinned: `file#sha256=HEX`.

Loading a file of `torch.export.save` can run code that is in it. A pin makes sure that it is the file that somebody has
looked at, wherever it is kept; the bytes that are compared are those that are loaded.
"""

import hashlib
import re

from pipeline.common.options import SettingError
from pipeline.storage.objects import MISNAMED, raise_if_trouble, read_bytes
from pipeline.storage.trouble import reason
from pipeline.storage.uris import shown

PIN = "Append #sha256=HEX to refuse any other file."
"""For help sentences of settings that take such a file."""

TRUST = "Loading the file runs code that is in it: use only files that you trust."
"""For help sentences of settings that take a file of `torch.export.save`."""

_SIGN = "#sha256="


def read_pinned(key: str, value: str) -> bytes:
    """The file that the setting `key` names, a path or URI with or without a pin.

    Raises SettingError if it does not exist or is not what its pin says, and StorageError.
    """
    uri, pin = split_pin(key, value)
    try:
        data = read_bytes(uri)
    except MISNAMED as error:
        raise SettingError(key, f"{shown(uri)} could not be read: {reason(error)}") from error
    except Exception as error:
        raise_if_trouble(error, f"{key}: {shown(uri)} could not be read")
        raise
    if data is None:
        raise SettingError(key, f"{shown(uri)} does not exist")
    found = hashlib.sha256(data).hexdigest()
    if pin and pin != found:
        raise SettingError(
            key,
            f"{shown(uri)} has the SHA-256 {found}, not {pin} as the setting says: it was not loaded; give the right "
            "file, or its own SHA-256 if you trust it",
        )
    return data


def split_pin(key: str, value: str) -> tuple[str, str]:
    """(path or URI, SHA-256 in lower case or an empty text). Raises SettingError for what is no SHA-256."""
    place = value.lower().rfind(_SIGN)
    if place < 0:
        return value, ""
    uri, pin = value[:place], value[place + len(_SIGN) :].strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", pin):
        raise SettingError(
            key, f"{_SIGN} must be followed by the 64 hexadecimal digits that sha256sum prints, not by {len(pin)} characters"
        )
    return uri, pin
