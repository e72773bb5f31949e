"""Changes of a file's bytes that find errors in readers: bits, lengths, missing and repeated parts, parts of others."""

import random
import struct
import zlib

WORDS = (0, 1, 2, 0x7F, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
LONG_WORDS = (0, 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)

TOKENS = (
    *(
        '"',
        "'",
        ",",
        ";",
        ":",
        "{",
        "}",
        "[",
        "]",
        "(",
        "\n",
        "\r",
        "\t",
        " ",
        "#",
        "=",
        "*",
        "&a ",
        "<<: *a",
        "!!binary ",
    ),
    *("\\", "\\u0000", "\\ud800", "\0", "\x1b[31m", "\u202e", "\ufeff", "é", "\U0001f600", "ﬁ", "%", "%00", "%2e"),
    *("null", "true", "NaN", "Infinity", "1e999", "-1", "0x10", "007", "1_000", "2**64", "9" * 5_000, "1e-400", "0.5"),
    *(
        "[" * 2_000,
        '{"a":' * 2_000,
        "x" * 70_000,
        "../",
        "/",
        "~",
        "~root",
        "://",
        "file://",
        "s3://",
        "?a=b",
        "@",
        "$HOME",
    ),
)
"""What texts contain that readers stumble over."""


def mutant(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """`data` after one to nine changes; `others` are files from which a part may come."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 9))):
        if len(changed) < 16:
            changed += rng.randbytes(16)
        rng.choice(CHANGES)(rng, changed, others)
    return bytes(changed)


def text_mutant(rng: random.Random, text: str, others: list[str]) -> str:
    """The same for a text: it stays one, so that more of the reader sees it."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice((0, 0, 1, 1, 2, 4, 16, 64)))
        part = rng.choice(
            (rng.choice(TOKENS), rng.choice(TOKENS), "", text[start:end] * 2, rng.choice(others)[start:end])
        )
        text = text[:start] + part + text[end:]
    return text


def _place(rng: random.Random, size: int) -> int:
    """A position; headers and indexes are at the start and at the end."""
    where = rng.random()
    if where < 0.45:
        return rng.randrange(min(size, 256))
    if where < 0.75:
        return rng.randrange(min(size, 4096))
    if where < 0.9:
        return size - 1 - rng.randrange(min(size, 4096))
    return rng.randrange(size)


def _bit(rng, data, others):
    data[_place(rng, len(data))] ^= 1 << rng.randrange(8)


def _byte(rng, data, others):
    data[_place(rng, len(data))] = rng.randrange(256)


def _put(rng, data, kind, value):
    size = struct.calcsize(kind)
    at = min(_place(rng, len(data)), len(data) - size)
    data[at : at + size] = struct.pack(rng.choice("<>") + kind, value & (256**size - 1))


def _word(rng, data, others):
    _put(rng, data, "I", rng.choice((*WORDS, len(data), len(data) - 1, len(data) + 1, len(data) - 8)))


def _half_word(rng, data, others):
    _put(rng, data, "H", rng.choice((0, 1, 255, 256, 0x7FFF, 0x8000, 0xFFFF)))


def _long_word(rng, data, others):
    _put(rng, data, "Q", rng.choice(LONG_WORDS))


def _near(rng, data, others):
    """A number that is a little larger or smaller than before."""
    order = rng.choice(("big", "little"))
    at = min(_place(rng, len(data)), len(data) - 4)
    value = int.from_bytes(data[at : at + 4], order) + rng.choice((-1, 1, -8, 8, 255, 65536))
    data[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, order)


def _missing(rng, data, others):
    at = _place(rng, len(data))
    del data[at : at + rng.choice((1, 2, 4, 8, 64, 512))]


def _repeated(rng, data, others):
    at, source = _place(rng, len(data)), _place(rng, len(data))
    data[at:at] = data[source : source + rng.choice((1, 4, 16, 256))]


def _noise(rng, data, others):
    at = _place(rng, len(data))
    data[at : at + 8] = rng.randbytes(8)


def _cut(rng, data, others):
    del data[max(16, int(len(data) * rng.random())) :]


def _of_another(rng, data, others):
    other = rng.choice(others)
    data[_place(rng, len(data)) :] = other[_place(rng, len(other)) :] if other else b""


CHANGES = (
    *(_bit, _byte, _word, _half_word, _long_word, _near),
    *(_missing, _repeated, _noise, _cut, _of_another),
)


# --- Checksums: without them, readers would refuse nearly every mutant at its first byte --------------------------


def with_png_checksums(data: bytes) -> bytes:
    """A PNG file whose chunks have the right checksums, as far as their lengths can be followed."""
    out, at = bytearray(data[:8]), 8
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size > len(data) - at - 12:
            return bytes(out + data[at:])
        body = data[at + 4 : at + 8 + size]
        out += data[at : at + 8 + size] + struct.pack(">I", zlib.crc32(body))
        at += 12 + size
    return bytes(out)


def _ogg_table() -> list[int]:
    table = []
    for value in range(256):
        value <<= 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


OGG = _ogg_table()


def with_ogg_checksums(data: bytes) -> bytes:
    """An Ogg file whose pages have the right checksums, as far as they can be followed (RFC 3533)."""
    out, at = bytearray(data), data.find(b"OggS")
    while at >= 0 and at + 27 <= len(out):
        end = at + 27 + out[at + 26]
        end += sum(out[at + 27 : end])
        if end <= len(out) and end - at < 70_000:
            out[at + 22 : at + 26] = bytes(4)
            sum_ = 0
            for byte in out[at:end]:
                sum_ = (sum_ << 8 & 0xFFFFFFFF) ^ OGG[sum_ >> 24 ^ byte]
            out[at + 22 : at + 26] = struct.pack("<I", sum_)
        at = data.find(b"OggS", at + 4)
    return bytes(out)
