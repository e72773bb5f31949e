"""Comments of JPEG files: what belongs to an image is in its file, and takes no request of its own."""

START, COMMENT, IMAGE = b"\xff\xd8", 0xFE, 0xDA
"""The first marker of a file, the second byte of a comment's marker, and that of the compressed image's."""

MOST = 65_533
"""Largest comment, in bytes."""


def with_comment(jpeg: bytes, comment: bytes) -> bytes:
    """The same image with a comment at its start; without it if the comment is larger than `MOST`."""
    if len(comment) > MOST or not jpeg.startswith(START):
        return jpeg
    return START + bytes((0xFF, COMMENT)) + (len(comment) + 2).to_bytes(2) + comment + jpeg[len(START) :]


def split_comment(jpeg: bytes) -> tuple[bytes | None, bytes]:
    """(the first comment of a file, the file without it); (None, the file) if there is none."""
    place = len(START)
    while jpeg.startswith(START) and jpeg[place : place + 1] == b"\xff" and place + 4 <= len(jpeg):
        kind, end = jpeg[place + 1], place + 2 + int.from_bytes(jpeg[place + 2 : place + 4])
        if kind == IMAGE:
            break
        if kind == COMMENT:
            return jpeg[place + 4 : end], jpeg[:place] + jpeg[end:]
        place = end
    return None, jpeg
