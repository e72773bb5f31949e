"""The rules for what a person reads: short, in words, and with what to do."""

import re

LONGEST = 300
"""Characters of a message, without its paths."""

INTERNAL = re.compile(
    r"\w+(Error|Exception|Warning)\b|Errno|Traceback|<class|<.* object| object at 0x|\bav\.|\b[bB]'|\bNone\b|\\x|"
    r"Invalid data found|cannot identify image|avcodec|libav|nan\b"
)
MACHINE = re.compile(r"floatcast-\w{8}\b|site-packages|/proc/|\.cache/|/lib/python")
"""Paths of the machine that nobody has named."""
PATHS = re.compile(r"(?:s3:/|file:/)?/\S+")


def faults(message):
    """What is wrong with a message."""
    text = PATHS.sub("", message)
    if len(text) > LONGEST:
        yield f"{len(text)} characters"
    if found := INTERNAL.search(text):
        yield f"an internal word: {found[0]}"
    if found := MACHINE.search(message):
        yield f"a path of the machine: {found[0]}"
    if not message.isprintable():
        yield "characters that are not seen"
    if not re.search(r"[:;] *\S+ \S+", text):
        yield "nothing that says what to do"
    if not re.match(r"[a-z'\"(/0-9-]|[A-Z0-9]{2}", message):
        yield "a capital letter at its start"
    if message.rstrip() != message or message.endswith((".", ":", ";")):
        yield "an end that is none"
