"""Machine-readable marking of a delivered MP4 as made by a trained model.

An XMP packet in the top-level `uuid` box that the XMP Specification, Part 3, gives MPEG-4 files. Its
`Iptc4xmpExt:DigitalSourceType` is IPTC's `trainedAlgorithmicMedia`, which the EU AI Act's codes of practice and C2PA
use too. There is no date in it: the same clip gives the same bytes.
"""

import io
import struct
import uuid
import xml.etree.ElementTree as ET
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import av

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP_BOX = uuid.UUID("be7acfcb-97a9-42e8-9c71-999491e3afac")

_SPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "floatcast": "urn:floatcast:xmp:1",
}
for _prefix, _space in _SPACES.items():
    ET.register_namespace(_prefix, _space)

PROPERTIES = {
    "source_type": "Iptc4xmpExt:DigitalSourceType",
    "generator": "xmp:CreatorTool",
    "clip_id": "dc:identifier",
    "model": "floatcast:Model",
    "model_hash": "floatcast:ModelHash",
}
"""What the packet says -> its property."""


def generator() -> str:
    """Name and version of this program."""
    try:
        return f"Floatcast {version('floatcast')}"
    except PackageNotFoundError:  # run from a folder that is not installed
        return "Floatcast"


def mark(path: Path, *, clip_id: str, model: str, model_hash: str) -> dict[str, str]:
    """Append the packet to a finished MP4; returns what it says, as `read_mark` does. Nothing else is moved."""
    said = {
        "source_type": SOURCE_TYPE,
        "generator": generator(),
        "clip_id": clip_id,
        "model": model,
        "model_hash": model_hash,
    }
    meta = ET.Element(_name("x:xmpmeta"))
    about = ET.SubElement(ET.SubElement(meta, _name("rdf:RDF")), _name("rdf:Description"), {_name("rdf:about"): ""})
    for key, value in said.items():
        about.set(_name(PROPERTIES[key]), value)
    packet = io.BytesIO()
    packet.write('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'.encode())
    packet.write(ET.tostring(meta, encoding="unicode").encode())
    packet.write(b'<?xpacket end="r"?>')
    body = XMP_BOX.bytes + packet.getvalue()
    with path.open("ab") as file:
        file.write(struct.pack(">I", 8 + len(body)) + b"uuid" + body)
    return said


def read_mark(path: Path) -> dict[str, str]:
    """What the packet of a file says; empty where it has none. Raises av.FFmpegError for what is no media file."""
    with av.open(path, "r", options={"export_xmp": "1"}) as file:
        text = file.metadata.get("xmp", "")
    if not text or "<!" in text:  # a document type may define entities that grow without end
        return {}
    try:
        root = ET.fromstring(text)
    except ET.ParseError:
        return {}
    about = root.find(f"{_name('rdf:RDF')}/{_name('rdf:Description')}")
    found = {} if about is None else {key: about.get(_name(name)) for key, name in PROPERTIES.items()}
    return {key: value for key, value in found.items() if value is not None}


def _name(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{{{_SPACES[prefix]}}}{local}"
