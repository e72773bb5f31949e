"""The mark in every delivered file that says, for machines, that it is AI-generated: an XMP packet in the MP4.

It lies in the `uuid` box that the XMP Specification, Part 3, names for MPEG-4, after all others: the media and their
index stay where they are, byte by byte. The properties are standard ones, so that others' tools read them; a date is
not among them, so that the same clip gives the same file.
"""

import re
import struct
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import av

from pipeline import __version__
from pipeline.common.errors import ClipError

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for media made by a trained model alone (NewsCodes, Digital Source Type)."""

XMP_UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")

LARGEST = 1_000_000
"""Characters of a packet that is read. Ours has about a thousand."""

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
XMP = "http://ns.adobe.com/xap/1.0/"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

PROPERTIES = {
    "digital_source_type": (IPTC, "DigitalSourceType"),
    "creator_tool": (XMP, "CreatorTool"),
    "title": (DC, "title"),
    "model": (IPTC, "AISystemUsed"),
    "model_hash": (IPTC, "AISystemVersionUsed"),
}
"""Name in a mark -> namespace and name of its property. The last two are of IPTC Photo Metadata 2025.1."""

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def mark(path: Path, *, clip_id: str, model: str, model_hash: str) -> None:
    """Append the mark to a finished MP4, and read it back.

    Raises ClipError encode_failed where the file cannot be written, and verify_failed where it does not tell the mark.
    """
    # Unicode has a few characters that no XML may hold, not even escaped.
    values = {
        "digital_source_type": SOURCE_TYPE,
        "creator_tool": f"Floatcast {__version__}",
        "title": _NOT_XML.sub("\ufffd", clip_id),
        "model": _NOT_XML.sub("\ufffd", model),
        "model_hash": model_hash,
    }
    body = XMP_UUID + _packet(values).encode()
    try:
        with path.open("ab") as file:
            file.write(struct.pack(">I4s", 8 + len(body), b"uuid") + body)
    except OSError as error:
        raise ClipError("encode_failed", f"the provenance mark could not be written: {error}") from error
    try:
        found = read_mark(path)
    except ValueError as error:
        raise ClipError("verify_failed", f"the provenance mark cannot be read back: {error}") from error
    if found != values:
        raise ClipError("verify_failed", f"the mark in the file differs from the mark that was written: {found!r}")


def read_mark(path: Path) -> dict[str, str]:
    """Those of `PROPERTIES` that an MP4 from anywhere has in its XMP; empty where it has none.

    Raises ValueError where the file is no MP4 or its packet is none.
    """
    try:
        # FFmpeg's demuxer leaves XMP out unless it is asked for it.
        with av.open(path, "r", options={"export_xmp": "1"}) as file:
            text = file.metadata.get("xmp", "")
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error
    return _parsed(text) if text else {}


def _packet(values: dict[str, str]) -> str:
    """The XMP packet: properties of text as attributes, the title as the one entry of a list of languages."""
    prefixes = {IPTC: "Iptc4xmpExt", XMP: "xmp"}
    texts = " ".join(
        f"{prefixes[space]}:{name}={quoteattr(values[key])}"
        for key, (space, name) in PROPERTIES.items()
        if space in prefixes
    )
    title = escape(values["title"], {"\r": "&#13;"})
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">'
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{IPTC}" xmlns:xmp="{XMP}" xmlns:dc="{DC}" {texts}>'
        f'<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{title}</rdf:li></rdf:Alt></dc:title>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>\n"
        '<?xpacket end="w"?>'
    )


def _parsed(text: str) -> dict[str, str]:
    # Entities, which can make a gigabyte of a line, are declared in a DOCTYPE, and XMP has none.
    if len(text) > LARGEST or "<!DOCTYPE" in text:
        raise ValueError(f"the XMP packet has a DOCTYPE or more than {LARGEST} characters")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"the XMP packet is not XML: {error}") from None
    found = {key: _value(root, f"{{{space}}}{name}") for key, (space, name) in PROPERTIES.items()}
    return {key: value for key, value in found.items() if value is not None}


def _value(root: ElementTree.Element, name: str) -> str | None:
    """Text of a property; XMP may write it as an attribute, as an element, or as a list, of which this is the first."""
    for description in root.iter(f"{{{RDF}}}Description"):
        if name in description.attrib:
            return description.attrib[name]
        element = description.find(name)
        if element is not None:
            entry = element.find(f".//{{{RDF}}}li")
            return (element if entry is None else entry).text or ""
    return None
