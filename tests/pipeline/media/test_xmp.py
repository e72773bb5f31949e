"""The mark as others' tools find it: the box by its bytes, the packet by FFmpeg, the media by decoding."""

import hashlib
import struct

import av
import numpy as np
import pytest

from pipeline import __version__
from pipeline.common.errors import ClipError
from pipeline.media.mp4 import write_video
from pipeline.media.presets import MOV, MXF
from pipeline.media.settings import VideoSettings
from pipeline.media.sound_output import silence
from pipeline.media.xmp import SOURCE_TYPE, XMP_UUID, mark, read_mark, tags_of_mark
from tests import media

HASH = "0123456789abcdef" * 4


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(media.mp4(media.tone(rate=48_000), faststart=True))
    return path


def marked(path, clip_id="a", model="float"):
    mark(path, clip_id=clip_id, model=model, model_hash=HASH)
    return path


def boxes(data):
    """(type, contents) of the boxes at the top level."""
    while data:
        length, kind = struct.unpack(">I4s", data[:8])
        yield kind, data[8:length]
        data = data[length:]


def with_packet(path, packet):
    path.write_bytes(path.read_bytes() + struct.pack(">I4s", 24 + len(packet), b"uuid") + XMP_UUID + packet)
    return path


def decoded(path):
    """Every picture and sample of a file."""
    with av.open(path) as file:
        sound = [frame.to_ndarray() for frame in file.decode(audio=0)]
    return media.pictures(str(path)), np.concatenate(sound, axis=1)


@pytest.mark.parametrize(
    "clip_id", ["scene-1", """R&D <b> "q" 'x' ]]> &amp;""", "日本語 สวัสดี Ж 🎬", "שלום\u200c", " ", "ä" * 100]
)
def test_a_mark_tells_what_was_written_whatever_the_name(video, clip_id):
    assert read_mark(marked(video, clip_id, model='M "<&>" 1')) == {
        "digital_source_type": SOURCE_TYPE,
        "creator_tool": f"Floatcast {__version__}",
        "title": clip_id,
        "model": 'M "<&>" 1',
        "model_hash": HASH,
    }


def test_a_character_that_no_xml_can_hold_is_replaced(video):
    assert read_mark(marked(video, "a\uffffb\x01c"))["title"] == "a\ufffdb\ufffdc"


def test_the_packet_is_found_by_its_bytes_in_the_last_box_of_the_top_level(video):
    before = video.read_bytes()
    after = marked(video).read_bytes()
    assert after[: len(before)] == before  # nothing that was there has moved
    kinds = [kind for kind, _ in boxes(after)]
    assert kinds[0] == b"ftyp"
    assert kinds.index(b"moov") < kinds.index(b"mdat")
    kind, body = list(boxes(after))[-1]
    assert kind == b"uuid"
    assert body[:16].hex() == "be7acfcb97a942e89c71999491e3afac"
    assert f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"'.encode() in body
    assert body[16:].startswith(b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>')
    assert body.endswith(b'<?xpacket end="w"?>')


def test_a_marked_file_decodes_to_the_same_frames_and_sound(video):
    pictures, sound = decoded(video)
    new_images, new_sound = decoded(marked(video))
    assert np.array_equal(pictures, new_images)
    assert np.array_equal(sound, new_sound)


def test_the_same_clip_gives_the_same_file(video, tmp_path):
    other = tmp_path / "other.mp4"
    other.write_bytes(video.read_bytes())
    digests = {hashlib.sha256(marked(path).read_bytes()).hexdigest() for path in (video, other)}
    assert len(digests) == 1


def test_a_file_without_a_mark_has_none(video):
    assert read_mark(video) == {}


def test_the_same_properties_written_by_another_tool_are_read(video):
    packet = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <rdf:Description xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
    <i:DigitalSourceType>{SOURCE_TYPE}</i:DigitalSourceType></rdf:Description></rdf:RDF></x:xmpmeta>"""
    assert read_mark(with_packet(video, packet.encode())) == {"digital_source_type": SOURCE_TYPE}


@pytest.mark.parametrize(
    "packet",
    [
        b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><x>&b;</x>",
        b"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><x>&a;</x>",
        b"<x>&lol;</x>",
        b"no xml",
        b"<x>",
        b"<x>\xff\xfe</x>",
        b"<x>" + b"a" * 1_000_000 + b"</x>",
    ],
)
def test_a_foreign_packet_is_not_trusted(video, packet):
    with pytest.raises(ValueError, match=r"XMP packet|cannot be read"):
        read_mark(with_packet(video, packet))


def test_a_file_that_is_no_video_is_refused_by_name(tmp_path):
    (tmp_path / "note.mp4").write_bytes(media.TEXT)
    with pytest.raises(ValueError, match=r"note\.mp4 cannot be read"):
        read_mark(tmp_path / "note.mp4")


def test_a_mark_that_cannot_be_written_or_read_back_is_the_clips_failure(video, tmp_path):
    with pytest.raises(ClipError) as error:
        marked(tmp_path / "nowhere" / "film.mp4")
    assert error.value.code == "encode_failed"
    video.write_bytes(video.read_bytes()[:-100] + b"\0" * 4)  # the last box is cut: the mark would be inside of it
    with pytest.raises(ClipError) as error:
        marked(video)
    assert error.value.code == "verify_failed"


@pytest.mark.parametrize(("container", "preset"), [(MOV, "prores_422_hq"), (MXF, "ffv1"), (MXF, "dnxhr_hq")])
@pytest.mark.parametrize("clip_id", ["scene-1", """R&D <b> "q" 'x' ]]> &amp;""", "日本語 สวัสดี Ж 🎬"])
def test_files_for_editing_are_marked_by_their_muxer(container, preset, clip_id, tmp_path):
    path, settings = tmp_path / f"film{container.suffix}", VideoSettings(preset=preset, container=container.muxer)
    made = {"clip_id": clip_id, "model": "float", "model_hash": HASH}
    layout, sound = settings.format.layout, silence(4_000, "pcm")
    planes = np.full((2, layout.plane_rows(128), 256), 128, layout.dtype)
    write_video(planes, path, (256, 128), settings, sound, {})
    with pytest.raises(ClipError, match="the mark in the file differs"):  # it was written without one
        mark(path, **made)
    write_video(planes, path, (256, 128), settings, sound, tags_of_mark(container, **made))
    before = path.read_bytes()
    mark(path, **made)
    assert path.read_bytes() == before
    found = read_mark(path)
    assert found == {
        "digital_source_type": SOURCE_TYPE,
        "creator_tool": f"Floatcast {__version__}",
        "title": clip_id,
        "model": "float",
        "model_hash": HASH,
    }
    if container is MOV:  # where the XMP Specification has it for QuickTime
        (movie,) = [body for kind, body in boxes(before) if kind == b"moov"]
        (data,) = [body for kind, body in boxes(movie) if kind == b"udta"]
        (packet,) = [body for kind, body in boxes(data) if kind == b"XMP_"]
        assert packet.startswith(b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>')
    else:
        assert SOURCE_TYPE.encode("utf-16-le") in before
