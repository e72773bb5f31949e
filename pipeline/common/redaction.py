"""Removes credentials from rows, logs and messages."""

import os
import re
from typing import Any

_SECRETS = re.compile(
    r"(?<=://)[^/\s@]*@"  # user:password@
    r"|(?<=[?&;])(?:x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|signature|sig|token"
    r"|access_token|api_?key|password|secret)=[^&;\s'\"]*",
    re.IGNORECASE,
)


def carries_credentials(uri: str) -> bool:
    """Whether a URI contains a user before its host, or a signature or key in its query."""
    return _SECRETS.search(uri) is not None


def redacted(text: str) -> str:
    """A text without credentials from URIs and from the environment."""
    text = _SECRETS.sub("***", text)
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        value = os.environ.get(name, "").strip()
        if len(value) >= 8:  # a shorter value hides nothing, and would also remove parts of words
            text = text.replace(value, "***")
    return text


def redacted_value(value: Any) -> Any:
    """A manifest value with all of its texts redacted, including nested ones."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {name: redacted_value(part) for name, part in value.items()}
    return [redacted_value(part) for part in value] if isinstance(value, list) else value
