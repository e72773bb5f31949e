"""What a file is that cannot be read as a picture, by its first bytes: for a message to the person who brought it."""

import re

_AS_PICTURE = "export it as JPEG or PNG"
_NO_PICTURE = "give a PNG, JPEG or WebP picture"
_UNPACK = "unpack it, and give the picture itself"

_BRANDS = (
    (("avif", "avis"), "AVIF", _AS_PICTURE),
    (("heic", "heix", "heim", "heis", "hevc", "hevx"), "HEIC, the format of iPhone photos", _AS_PICTURE),
    (("mif1", "msf1", "heif", "miaf"), "HEIF, a format of phone photos", _AS_PICTURE),
    (("crx ",), "a raw file of a Canon camera (CR3)", _AS_PICTURE),
    (("M4A ", "M4B "), "a sound file (M4A)", _NO_PICTURE),
    (("qt  ",), "a film (QuickTime)", _NO_PICTURE),
    ((), "a film (MP4)", _NO_PICTURE),
)
"""Brands in the first box of an ISO base media file -> what it is, what to do; the last line is for all others."""

_RIFF = {b"WAVE": "a sound file (WAV)", b"AVI ": "a film (AVI)", b"ACON": "an animated cursor"}

_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (rb"GIF8[79]a", "a GIF", _AS_PICTURE),
    (rb"BM.{4}\0\0\0\0.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "a BMP", _AS_PICTURE),
    (rb"II\*\0.{4}CR", "a raw file of a Canon camera (CR2)", _AS_PICTURE),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "a TIFF or a camera's raw file", _AS_PICTURE),
    (rb"IIRO|IIRS|IIU\0|FUJIFILMCCD-RAW|FOVb|\0MRM", "a camera's raw file", _AS_PICTURE),
    (rb"8BPS", "a Photoshop document (PSD)", _AS_PICTURE),
    (rb"gimp xcf", "a GIMP document (XCF)", _AS_PICTURE),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000", _AS_PICTURE),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "JPEG XL", _AS_PICTURE),
    (rb"II\xbc", "JPEG XR", _AS_PICTURE),
    (rb"\0\0[\x01\x02]\0.\0", "an icon (ICO)", _AS_PICTURE),
    (rb"icns", "an icon (ICNS)", _AS_PICTURE),
    (rb"v/1\x01", "OpenEXR", _AS_PICTURE),
    (rb"#\?R", "Radiance HDR", _AS_PICTURE),
    (rb"P[1-7fF]\s", "a PNM (PBM, PGM, PPM or PAM)", _AS_PICTURE),
    (rb"DDS |qoif|BPG\xfb|FLIF|farbfeld", "a picture in a format that is rarely used", _AS_PICTURE),
    (rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF", "a Windows metafile", _AS_PICTURE),
    (rb".{128}DICM", "a medical image (DICOM)", _AS_PICTURE),
    (rb"AT&TFORM", "DjVu", _AS_PICTURE),
    (rb"%PDF-", "a PDF", _AS_PICTURE),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript (EPS or AI)", _AS_PICTURE),
    (rb"PK\x03\x04.{26}(word|ppt|xl|\[Content_Types\])", "an Office document", "give the picture in it as PNG or JPEG"),
    (rb"\xd0\xcf\x11\xe0", "an old Office document", "give the picture in it as PNG or JPEG"),
    (rb"PK[\x03\x05]", "a ZIP archive", _UNPACK),
    (rb"Rar!|7z\xbc\xaf|\x1f\x8b|BZh[1-9]|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar", "an archive", _UNPACK),
    (rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", "a sound file (MP3)", _NO_PICTURE),
    (rb"\xff[\xf1\xf9]", "a sound file (AAC)", _NO_PICTURE),
    (rb"fLaC", "a sound file (FLAC)", _NO_PICTURE),
    (rb"OggS", "a sound file (Ogg)", _NO_PICTURE),
    (rb"RIF[FX]", "a RIFF file without a picture", _NO_PICTURE),
    (rb"\x1aE\xdf\xa3", "a film (Matroska or WebM)", _NO_PICTURE),
    (rb".{4}(moov|mdat|wide|free)", "a film (MP4 or QuickTime)", _NO_PICTURE),
    (rb"FLV\x01|\0\0\x01[\xba\xb3]|0&\xb2u|G.{187}G.{187}G", "a film", _NO_PICTURE),
    (rb"MZ|\x7fELF|[\xcf\xce]\xfa\xed\xfe", "a program", _NO_PICTURE),
    (rb"\0\x05\x16[\0\x07]", "what macOS stores beside a file (its name begins with ._)", "give the picture itself"),
    (rb"\x93NUMPY|PAR1|SQLite format|\x89HDF", "a file of numbers or tables", _NO_PICTURE),
)
"""Expressions for the first bytes -> what it is, what to do; the first that matches counts."""

_TEXTS: tuple[tuple[str, str, str], ...] = (
    (r"version https://git-lfs", "a pointer of Git LFS, without the picture", "fetch the picture with git lfs pull"),
    (r"data:image/|/9j/|iVBORw0KGgo|UklGR", "a picture written as text (base64)", "decode it to a PNG or JPEG file"),
    (r"(<\?xml.*?>|<!--.*?-->|<!DOCTYPE svg.*?>|\s)*<svg\b", "an SVG drawing", _AS_PICTURE),
    (
        r"(<\?xml.*?>|<!--.*?-->|\s)*<(!DOCTYPE html|html|head|body|script|meta|title)\b",
        "a web page (HTML), such as the error or login page of a server",
        "download the picture itself",
    ),
    (r"<\?xml|<[A-Za-z!]", "XML, such as the error of a server", "download the picture itself"),
    (r"[\[{]\s*[\"\[{\]}\d]", "JSON, such as the error of a server", "download the picture itself"),
)
"""The same for the beginning of a text."""


def found_format(data: bytes) -> tuple[str, str]:
    """(what the file is, what to do) for a file that no reader of pictures recognizes; `data` may be its beginning."""
    start = data[:4096]
    if not start:
        return "empty", "upload it again"
    if not start.strip(b"\0"):
        return "nothing but zeros, as an interrupted upload leaves it", "upload it again"
    if start[12:16] == b"CgBI":
        return "a PNG of Apple's own kind, as it is in an app for iPhones", _AS_PICTURE
    for signature, kind in ((b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG")):
        if start.startswith(signature):
            return f"a {kind} whose header is damaged", "export or upload it again"
        if 0 < (skipped := start.find(signature)) <= 64:
            return f"a {kind} with {skipped} foreign bytes in front of it", "export or upload it again"
    if re.match(rb".?PNG\s", start, re.DOTALL):
        return "a PNG whose header is damaged, as by a transfer in text mode", "upload it again, in binary mode"
    for at, mark, kind in ((12, b"IHDR", "PNG"), (6, b"JFIF\0", "JPEG"), (6, b"Exif\0", "JPEG"), (8, b"WEBP", "WebP")):
        if start[at:].startswith(mark):
            return f"a {kind} whose header is damaged", "export or upload it again"
    if start[:4] == b"RIFF" and start[8:12] in _RIFF:
        return _RIFF[start[8:12]], _NO_PICTURE
    if start[4:8] == b"ftyp":
        return _of_brands(start)
    for expression, what, advice in _STARTS:
        if re.match(expression, start, re.DOTALL):
            return what, advice
    return _of_text(start)


def _of_brands(start: bytes) -> tuple[str, str]:
    size = int.from_bytes(start[:4], "big")
    brands = [start[at : at + 4].decode("latin-1") for at in (8, *range(16, min(size, 256), 4))]
    # The first brand may be a general one of phones, and the list after it says which format it is.
    for names, what, advice in _BRANDS:
        if not names or brands[0] in names or (brands[0] in ("mif1", "msf1", "miaf") and {*names} & {*brands}):
            return what, advice
    raise AssertionError("the last line is for all brands")


def _of_text(start: bytes) -> tuple[str, str]:
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = start.decode(encoding, "replace").strip()
    for expression, what, advice in _TEXTS:
        if re.match(expression, text, re.DOTALL | re.IGNORECASE):
            return what, advice
    odd = sum(letter == "\ufffd" or (letter < " " and not letter.isspace()) for letter in text)
    if odd <= len(text) // 100:
        return "a text", _NO_PICTURE
    return "in no format that is known here", _AS_PICTURE
