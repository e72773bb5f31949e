"""The machine-readable mark in every delivered file that says that it is AI-generated: an XMP packet.

Its place is that of the XMP Specification, Part 3. In MP4 it is stored at the end of the file in a `uuid` box, so the
media and their index do not change by a byte; in MOV it is the item `XMP_` of the user data, which FFmpeg writes with
the index. The properties are standard ones that other tools can read. They do not include a date, so the same clip
gives the same file.

MXF has no place for XMP that FFmpeg writes. There the same properties are user comments of the material package
(SMPTE ST 377-1, tagged values), under the names that they have in XMP.
"""

import re
import struct
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import av

from pipeline import __version__
from pipeline.common.errors import ClipError
from pipeline.media.presets import MOV, MP4, MXF, Container
from pipeline.storage.trouble import reason

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for media created entirely by a trained model (NewsCodes, Digital Source Type)."""

XMP_UUID = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")

LARGEST = 1_000_000
"""Largest packet that is read, in characters. Ours has about a thousand."""

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
    "source": (DC, "source"),
}
"""Name in a mark -> namespace and name of its property. Those of the model are from IPTC Photo Metadata 2025.1."""

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


_COMMENT = "comment_"
"""FFmpeg's prefix of user comments in MXF."""


def comment(model: str, model_hash: str) -> dict[str, str]:
    """The tag that says in words what a file is."""
    return {"comment": f"AI-generated talking portrait; Floatcast, model {model} {model_hash[:12]}"}


def tags_of_mark(
    container: Container, *, clip_id: str, model: str, model_hash: str, source_sha256: str | None = None
) -> dict[str, str]:
    """The mark as tags for FFmpeg's muxer, for the containers in which it is written with the rest of the file."""
    values = _values(clip_id, model, model_hash, source_sha256)
    if container == MOV:
        return {"xmp": _packet(values)}
    if container == MXF:
        return {_COMMENT + PROPERTIES[key][1]: value for key, value in values.items()}
    return {}


def mark(path: Path, *, clip_id: str, model: str, model_hash: str, source_sha256: str | None = None) -> None:
    """Append the mark to a finished MP4, and read back that of any file.

    `source_sha256` is that of the picture which the video shows around what was made.
    Raises ClipError encode_failed if the file cannot be written, and verify_failed if it does not contain the mark.
    """
    values = _values(clip_id, model, model_hash, source_sha256)
    if path.suffix == MP4.suffix:
        body = XMP_UUID + _packet(values).encode()
        try:
            with path.open("ab") as file:
                file.write(struct.pack(">I4s", 8 + len(body), b"uuid") + body)
        except OSError as error:
            raise ClipError("encode_failed", f"the provenance mark could not be written: {reason(error)}") from error
    try:
        found = read_mark(path)
    except ValueError as error:
        raise ClipError("verify_failed", f"the provenance mark cannot be read ({error}): please report it") from error
    if found != values:
        raise ClipError("verify_failed", "the mark in the file differs from the one that was written: please report it")


def read_mark(path: Path) -> dict[str, str]:
    """The `PROPERTIES` that any MP4 or MOV has in its XMP, or any MXF in its comments; empty if it has none.

    Raises ValueError if the file cannot be read or its packet is not XMP.
    """
    try:
        # FFmpeg's demuxer skips XMP by default.
        with av.open(path, "r", options={"export_xmp": "1"}) as file:
            tags = dict(file.metadata)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} cannot be read as a video") from error
    if any(name.startswith(_COMMENT) for name in tags):
        found = {key: tags.get(_COMMENT + name) for key, (_, name) in PROPERTIES.items()}
        return {key: value for key, value in found.items() if value is not None}
    text = tags.get("xmp", "")
    return _parsed(text) if text else {}


def _values(clip_id: str, model: str, model_hash: str, source_sha256: str | None) -> dict[str, str]:
    source = {} if source_sha256 is None else {"source": f"urn:sha256:{source_sha256}"}
    # A few Unicode characters are not allowed in XML, even if they are escaped.
    return source | {
        "digital_source_type": SOURCE_TYPE,
        "creator_tool": f"Floatcast {__version__}",
        "title": _NOT_XML.sub("\ufffd", clip_id),
        "model": _NOT_XML.sub("\ufffd", model),
        "model_hash": model_hash,
    }


def _packet(values: dict[str, str]) -> str:
    """The XMP packet, with text properties as attributes and the title as the only entry of a list of languages."""
    prefixes = {IPTC: "Iptc4xmpExt", XMP: "xmp", DC: "dc"}
    texts = " ".join(
        f"{prefixes[space]}:{name}={quoteattr(values[key])}"
        for key, (space, name) in PROPERTIES.items()
        if key in values and key != "title"
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
    # Entities, which can expand one line to a gigabyte, are declared in a DOCTYPE, which XMP does not have.
    if len(text) > LARGEST or "<!DOCTYPE" in text:
        raise ValueError(f"the XMP packet has a DOCTYPE or more than {LARGEST} characters")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        raise ValueError("the XMP packet is not XML") from None
    found = {key: _value(root, f"{{{space}}}{name}") for key, (space, name) in PROPERTIES.items()}
    return {key: value for key, value in found.items() if value is not None}


def _value(root: ElementTree.Element, name: str) -> str | None:
    """Text of a property, which XMP may write as an attribute, as an element, or as a list, whose first entry
    counts.
    """
    for description in root.iter(f"{{{RDF}}}Description"):
        if name in description.attrib:
            return description.attrib[name]
        element = description.find(name)
        if element is not None:
            entry = element.find(f".//{{{RDF}}}li")
            return (element if entry is None else entry).text or ""
    return None
