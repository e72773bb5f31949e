"""Removes credentials from rows, logs and messages: what looks like one, and the secrets of the environment."""

import re
from typing import Any

from pipeline.common.secrets import secrets_of_the_environment

REMOVED = "***"

_KEYS = (
    r"(?:x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|signature|sig|token|access_token"
    r"|api_?key|password|secret)"
)
_IN_URIS = re.compile(
    r"(?<=://)[^/\s@]*@"  # user:password@
    rf"|(?<=[?&;]){_KEYS}=[^&;\s'\"]*",
    re.IGNORECASE,
)

_SETTINGS = (
    *("secret_access_key", "secretaccesskey", "session_token", "sessiontoken", "security-token", "security_token"),
    *("client_secret", "access_token", "api_key", "apikey"),
)

_ELSEWHERE = [
    (signs, re.compile(pattern, re.IGNORECASE))
    for signs, pattern in (
        # The same after other programs have encoded them.
        ((":\\/", ":\\\\/"), r"(:(?:\\{1,2}/){2})[^/\s@\\]*@"),
        (("%3a%2f%2f",), r"(%3a%2f%2f)(?:(?!%2f)[^/\s@])*?%40"),
        (("%253a%252f",), r"(%253a%252f%252f)(?:(?!%252f)[^/\s@])*?%2540"),
        (
            ("%3f", "%26", "amp;", "\\u0026"),
            rf"(%3f|%26|amp;|\\u0026){_KEYS}(?:=|%3d|\\u003d)(?:(?!%26|\\u0026)[^&;\s'\"])*",
        ),
        # Headers and settings that carry credentials.
        (
            ("authorization",),
            r"(authorization[\"']?\s{0,2}[:=]\s{0,2}[\"']?)(?:(?:basic|bearer|digest|aws4-hmac-sha256) )?"
            r"[^\s'\",]{16,}",
        ),
        (("signature=",), r"(signature=)[0-9a-f]{32,}"),
        (("bearer ",), r"(bearer )[\w.~+/=-]{16,}"),
        (
            _SETTINGS,
            rf"((?:{'|'.join(_SETTINGS)})[\"'\\]{{0,2}}\s{{0,2}}[:=]\s{{0,2}}[\"'\\]{{0,2}})[^\s'\"\\,;&]{{8,}}",
        ),
    )
]


def carries_credentials(uri: str) -> bool:
    """Whether a URI contains a user before its host, or a signature or key in its query."""
    return _IN_URIS.search(uri) is not None


def redacted(text: str) -> str:
    """A text without credentials from URIs, headers and the environment, in whatever way they are encoded."""
    text = _IN_URIS.sub(REMOVED, text)
    lower = text.lower()
    for signs, pattern in _ELSEWHERE:
        if any(sign in lower for sign in signs):
            text = pattern.sub(rf"\1{REMOVED}", text)
    return secrets_of_the_environment().removed(text, REMOVED)


def redacted_value(value: Any) -> Any:
    """A manifest value with all of its texts redacted, including nested ones."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {name: redacted_value(part) for name, part in value.items()}
    return [redacted_value(part) for part in value] if isinstance(value, list) else value
