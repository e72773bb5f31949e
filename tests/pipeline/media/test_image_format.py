"""What a file is that somebody gave the name of a picture, in words."""

import base64
import gzip
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media.image import load_image
from tests import media

COLOURS = Image.fromarray(media.colours())
SOUND = media.tone(rate=48_000)


def iso(brand, *more):
    body = b"ftyp" + brand + bytes(4) + b"".join(more)
    return (len(body) + 4).to_bytes(4, "big") + body + bytes(200)


def zipped(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, "content")
    return buffer.getvalue()


FOUND = {
    "HEIC, the format of iPhone photos": [iso(b"heic", b"mif1"), iso(b"mif1", b"mif1", b"heic"), iso(b"heix")],
    "HEIF": [iso(b"mif1", b"miaf")],
    "AVIF": [media.picture_of(COLOURS, "AVIF"), iso(b"mif1", b"avif")],
    "a GIF": [media.picture_of(COLOURS, "GIF")],
    "a BMP": [media.picture_of(COLOURS, "BMP")],
    "a TIFF or a camera's raw file": [media.picture_of(COLOURS, "TIFF")],
    "a raw file of a Canon camera (CR2)": [b"II*\0\x10\0\0\0CR\2\0"],
    "a raw file of a Canon camera (CR3)": [iso(b"crx ")],
    "a PNG of Apple's own kind": [b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI" + bytes(50)],
    "a Photoshop document": [b"8BPS\0\1" + bytes(50)],
    "JPEG 2000": [media.picture_of(COLOURS, "JPEG2000")],
    "JPEG XL": [b"\xff\x0a" + bytes(50), b"\0\0\0\x0cJXL \r\n\x87\n"],
    "an icon": [media.picture_of(COLOURS, "ICO")],
    "a PNM": [media.picture_of(COLOURS, "PPM")],
    "a PDF": [media.picture_of(COLOURS, "PDF")],
    "PostScript": [media.picture_of(COLOURS, "EPS")],
    "an SVG drawing": [b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', b"<svg/>"],
    "a web page (HTML)": [
        b"<html><body>403</body></html>",
        b"\n<!DOCTYPE html>\n<title>Sign in</title>",
        "\ufeff<!doctype html>".encode(),
    ],
    "XML": [b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>'],
    "JSON": [b'{"error": "not found"}', b"[]"],
    "a text": [media.TEXT, media.TEXT.decode().encode("utf-16")],
    "a pointer of Git LFS": [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"],
    "a picture written as text": [base64.b64encode(media.picture_of(COLOURS, kind)) for kind in ("PNG", "JPEG", "WEBP")]
    + [b"data:image/png;base64,AAAA"],
    "a ZIP archive": [zipped("face.jpg")],
    "an Office document": [zipped("[Content_Types].xml"), zipped("word/document.xml")],
    "an archive": [gzip.compress(b"face", mtime=0), b"Rar!\x1a\7", b"7z\xbc\xaf\x27\x1c"],
    "a sound file (WAV)": [media.wav(SOUND)],
    "a sound file (MP3)": [media.mp3(SOUND, 48_000)],
    "a sound file (FLAC)": [media.flac(SOUND, 48_000)],
    "a sound file (Ogg)": [media.opus(SOUND, 48_000)],
    "a sound file (M4A)": [media.m4a(SOUND, 48_000)],
    "a film (MP4)": [media.mp4(None, pictures=2)],
    "nothing but zeros": [bytes(5000)],
    "what macOS stores beside a file": [b"\0\5\x16\7\0\2\0\0Mac OS X"],
    "in no format that is known here": [np.random.default_rng(0).bytes(5000)],
}


def refusal(data, name):
    with pytest.raises(ClipError) as caught:
        load_image(data, Limits(), name)
    assert caught.value.code == "image_unreadable"
    return caught.value.message


@pytest.mark.parametrize(("what", "data"), [(what, data) for what, files in FOUND.items() for data in files])
def test_a_file_of_another_kind_is_named(what, data):
    message = refusal(data, "folder/Face.JPG")
    assert message.startswith(f"the file is {what}")
    assert ", though its name ends in .jpg: " in message
    assert len(message) < 200


def test_the_name_is_only_mentioned_if_it_says_something_else():
    gif = media.picture_of(COLOURS, "GIF")
    assert refusal(gif, "face.gif") == refusal(gif, "") == "the file is a GIF: export it as JPEG or PNG"


def test_pictures_with_a_wrong_name_of_the_accepted_ones_are_read():
    for kind in ("PNG", "JPEG", "WEBP"):
        assert load_image(media.picture_of(COLOURS, kind), Limits(), "face.tiff").shape == (96, 128, 3)


@pytest.mark.parametrize("at", [1, 9, 12, 17, 30])
def test_a_png_with_a_damaged_header_is_called_one(at):
    data = bytearray(media.picture_of(COLOURS, "PNG"))
    data[at] ^= 0x55
    message = refusal(bytes(data), "face.png")
    assert "PNG" in message
    assert "damaged" in message


def test_a_png_that_was_sent_as_text_is_called_one():
    data = media.picture_of(COLOURS, "PNG")
    for sent in (data.replace(b"\r\n", b"\n"), data.replace(b"\n", b"\r\n"), b"\x09" + data[1:]):
        assert "header is damaged, as by a transfer in text mode: upload it again, in binary mode" in refusal(
            sent, "face.png"
        )


def test_bytes_in_front_of_a_picture_are_named():
    for kind in ("PNG", "JPEG"):
        message = refusal(b"\r\n" + media.picture_of(COLOURS, kind), "a.jpg")
        assert f"a {kind} with 2 foreign bytes in front of it" in message
