"""Secrets of the environment and of URIs leave every text, however they are encoded."""

import base64
import html
import json
import urllib.parse

import pytest

from pipeline.common.redaction import carries_credentials, redacted

SECRET = "wJalrXUt/K7MDENG+bPx=fi\"CY&EX'key"
SHORT = "pa/ss+w0rd"


def quoted(text):
    return urllib.parse.quote(text, safe="")


def all_percent(text):
    return "".join(f"%{byte:02X}" for byte in text.encode())


def base64_of(text):
    return base64.b64encode(text.encode()).decode()


SPELLINGS = {
    "plain": lambda text: text,
    "repr": repr,
    "bytes": lambda text: repr(text.encode()),
    "percent": quoted,
    "percent, small letters": lambda text: quoted(text).replace("%2F", "%2f").replace("%2B", "%2b"),
    "percent twice": lambda text: quoted(quoted(text)),
    "percent, every character": all_percent,
    "form": urllib.parse.quote_plus,
    "json": json.dumps,
    "json in json": lambda text: json.dumps(json.dumps(text)),
    "json with escaped slashes": lambda text: json.dumps(text).replace("/", "\\/"),
    "json, every character": lambda text: "".join(f"\\u{ord(character):04x}" for character in text),
    "python, every character": lambda text: "".join(f"\\x{ord(character):02X}" for character in text),
    "octal, every character": lambda text: "".join(f"\\{ord(character):03o}" for character in text),
    "html": html.escape,
    "html, every character": lambda text: "".join(f"&#{ord(character)};" for character in text),
    "html in hexadecimal": lambda text: "".join(f"&#x{ord(character):X};" for character in text),
    "shell": lambda text: "".join(character if character.isalnum() else f"\\{character}" for character in text),
    "small letters": str.lower,
    "capitals": str.upper,
    "base64": base64_of,
    "base64 without padding": lambda text: base64_of(text).rstrip("="),
    "base64 for URIs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "base64 in a URI": lambda text: quoted(base64_of(text)),
    "base64 in lines": lambda text: "\n".join(base64_of(text)[i : i + 5] for i in range(0, 60, 5)),
    "base64 of user and password": lambda text: base64_of(f"user:{text}"),
    "base64 of a longer name": lambda text: base64_of(f"a-user:{text} and more"),
    "base64 of something else around it": lambda text: base64_of(f"me:{text}\n"),
    "hexadecimal": lambda text: text.encode().hex(),
    "hexadecimal, capitals": lambda text: text.encode().hex().upper(),
    "hexadecimal with spaces": lambda text: text.encode().hex(" "),
}
MANY_LINES = {
    "over two lines": lambda text: f"{text[:9]}\n  {text[9:]}",
    "over two lines, escaped": lambda text: repr(f"{text[:9]}\n  {text[9:]}"),
    "with a space after every character": " ".join,
}


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("DB_PASSWORD", SHORT)


@pytest.mark.parametrize("spelling", [*SPELLINGS, *MANY_LINES])
def test_a_secret_leaves_a_text_in_every_spelling(environment, spelling):
    written = (SPELLINGS | MANY_LINES)[spelling](SECRET)
    said = redacted(f"GET host: the header '{written}' was refused by s3://bucket/a.wav")
    assert "***" in said
    assert said.startswith("GET host: the header '")
    assert said.endswith("' was refused by s3://bucket/a.wav")
    assert len(said) < 85, "a part of it is left"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_short_secret_leaves_it_too(environment, spelling):
    said = redacted(f"the header '{SPELLINGS[spelling](SHORT)}' was refused")
    assert "***" in said
    assert len(said) < 55, "a part of it is left"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SESSION_TOKEN", "a8Fj2kLm"),
        ("HF_TOKEN", "hf_abcdefgh"),
        ("OPENAI_API_KEY", "sk-abcdefghijkl"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "Zm9vYmFyYmF6"),
        ("MYSECRET", "abcdefgh"),
        ("db_password", "abcdefgh"),
        ("SERVICE_KEY", "abcdefghijklmnop"),
        ("HTTPS_PROXY", "http://someone:abcdefgh@proxy:3128"),
        ("GOOGLE_CREDENTIALS", json.dumps({"type": "x", "private_key": "-----BEGIN\nabcdefghijklmnop\n-----END"})),
    ],
    ids=range(9),  # the environment has the name of a test, which must not have the secret
)
def test_variables_with_a_secret_are_known_by_their_names(monkeypatch, name, value):
    hidden = {"HTTPS_PROXY": "abcdefgh", "GOOGLE_CREDENTIALS": "abcdefghijklmnop"}.get(name, value)
    assert hidden in redacted(f"found {hidden} there")
    monkeypatch.setenv(name, value)
    assert redacted(f"found {hidden} there") == "found *** there"
    monkeypatch.delenv(name)
    assert hidden in redacted(f"found {hidden} there")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "disabled"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token-of-this-pod"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/portraits.json"),
        ("SIGNING_KEY", __file__),
        ("AWS_ACCESS_KEY_ID", "portraits"),
        ("CACHE_KEY", "portraits"),
        ("PWD", "/work/portraits"),
        ("TOKEN", "audio"),
        ("KEYBOARD", "portraits"),
    ],
)
def test_other_variables_and_short_values_hide_nothing(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    said = f"/work/portraits: the audio in {value} is disabled"
    assert redacted(said) == said


ORDINARY = [
    "row 3, column audio: s3://bucket/a@b/token.wav does not exist",
    "s3://bucket/a%40b/c%3Ad.wav: no signature = none",
    "https://host/a.wav?versionId=abcdefgh&part=2",
    "s3://bucket/key=value/token=1/secret.wav",
    "the hash 5029398d82df0c7c1b3a6b7e9f0c2d4e5f60718293a4b5c6d7e8f90a1b2c3d4e is another one",
    "consent_ref: the register has no such key: write one",
    "api_key: give one; access_token: give one",
    "authorization: ask the owner of the bucket",
    "C:\\Users\\me\\portraits\\new\\x41.png",
    "100 % of the clips & more &amp; no password",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
    "話者 アンナ さん: the audio is 3.5 s long, and must have 1 s or more",
]


@pytest.mark.parametrize("said", ORDINARY)
def test_ordinary_texts_stay_as_they_are(environment, said):
    assert redacted(said) == said


@pytest.mark.parametrize(
    "said",
    [
        "https://me:hidden-word@host/a.wav",
        "https:\\/\\/me:hidden-word@host\\/a.wav",
        "url=https%3A%2F%2Fme%3Ahidden-word%40host%2Fa.wav",
        "https%253A%252F%252Fme%253Ahidden-word%2540host",
        "https://host/a?x=1&X-Amz-Signature=hidden-word",
        "https://host/a?x=1&amp;token=hidden-word&amp;y=2",
        "%3Fx%3D1%26sig%3Dhidden-word%26y%3D2",
        "?x=1\\u0026password=hidden-word\\u0026y=2",
        "Authorization: Basic hidden-word-hidden-word",
        "{'Authorization': 'Bearer hidden-word-hidden-word'}",
        '{"aws_secret_access_key": "hidden-word"}',
        "x-amz-security-token: hidden-word",
        "client_secret=hidden-word",
    ],
)
def test_credentials_leave_uris_headers_and_settings(said):
    assert "hidden-word" not in redacted(said)
    assert "***" in redacted(said)


def test_uris_with_credentials_are_told_from_others():
    assert carries_credentials("https://me:word@host/a.wav")
    assert not carries_credentials("s3://bucket/a@b/c%40d.wav")


def test_a_long_text_is_searched_as_a_whole(environment):
    said = redacted("\\" * 20_000 + "%25" * 5_000 + quoted(SECRET) + "&amp" * 5_000)
    assert quoted(SECRET) not in said
