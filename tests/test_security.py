"""Manifests and files come from people we do not know: what they may not read, write, use up or learn."""

import http.server
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import threading
import unicodedata
import zlib
from pathlib import Path
from subprocess import PIPE

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import s3fs
import torch
from PIL import Image

from models.encoders import load_content_encoder
from models.model_folder import load_float
from pipeline.common.errors import ClipError, ManifestError, StorageError
from pipeline.common.limits import Limits
from pipeline.common.options import SettingError
from pipeline.common.redaction import redacted
from pipeline.face.pose_input import load_pose
from pipeline.ledger.clip_row import error_row
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.media.audio import load_audio
from pipeline.media.image import load_image
from pipeline.media.settings import VideoSettings
from pipeline.render.clip_inputs import load_inputs
from pipeline.run.fingerprint import identify
from pipeline.run.lengths import size_of
from pipeline.run.run import Run
from pipeline.run.selection import Selection
from pipeline.run.summary import write_summary
from pipeline.run.tables import write_tables
from pipeline.storage import objects, uris
from pipeline.storage.untrusted import check_allowed, read_input
from tests import media
from tests.running import run_job

ROOT = Path(__file__).parents[1]


def refusal(action, *arguments, **options):
    """(code, message) of the ClipError that a call ends with."""
    with pytest.raises(ClipError) as caught:
        action(*arguments, **options)
    return caught.value.code, caught.value.message


def manifest(folder, *rows, name="m.jsonl"):
    lines = [json.dumps({"image": "a.png", "audio": "a.wav", "clip_id": f"c{i}", **row}) for i, row in enumerate(rows)]
    (folder / name).write_text("\n".join(lines))
    return read_manifest(str(folder / name))


# --- Names of what is written ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clip_id",
    [
        *("/etc/x", "a/../../x", "..\\..\\x", "C:\\x", "\\\\host\\x", "s3://bucket/x", "..", ".", ".ssh", "a/.."),
        *("a\0b", "a\x1b[2Jb", "a\rb", "a\x7fb", "a\x85b"),
        *("a\u2028b", "a\u202egpj.b", "a\u2066b", "a\u200bb", "a\u00adb"),  # not seen, or turning around
        *("a\uff0fb", "a\uff3cb", "a\ufe68b"),  # slashes after NFKC, as some file systems and web servers apply it
        *("é" * 201, "e\u0301" * 201, "\U0001f600" * 201),
        *("CON", "nul", "Aux.x", "com1", "LPT9.take.2", "COM¹", "prn .x"),
    ],
)
def test_a_name_that_leads_elsewhere_or_deceives_is_refused(tmp_path, clip_id):
    read = manifest(tmp_path, {"clip_id": clip_id}, {})
    assert [clip.clip_id for clip in read.clips] == ["c1"]
    assert [one.error.code for one in read.rejected] == ["clip_id_invalid"]


@pytest.mark.parametrize(
    "clip_id",
    ["console", "null", "com10", "con_1", "a.con", "می\u200cخواهم", "क\u094d\u200dष", "何ですか？", "50％"],  # noqa: RUF001
)
def test_a_name_that_only_resembles_such_a_one_is_kept(tmp_path, clip_id):
    assert [clip.clip_id for clip in manifest(tmp_path, {"clip_id": clip_id}).clips] == [clip_id]


@pytest.mark.parametrize("clip_id", ["\ufeffa", "\u00a0a", "a\u3000"])
def test_what_is_not_seen_at_the_ends_of_a_name_is_removed(tmp_path, clip_id):
    read = manifest(tmp_path, {"clip_id": clip_id}, {"clip_id": "b"})
    assert [clip.clip_id for clip in read.clips] == ["a", "b"]
    assert not manifest(tmp_path, {"clip_id": clip_id}, {"clip_id": "a"}).clips


@pytest.mark.parametrize(
    "audio", ["x/..\\...wav", "../..", "x/.ssh", "CON.wav", "a\x1b[2J.wav", "a\u202eb.wav", "é" * 201]
)
def test_a_name_taken_from_the_audio_leads_nowhere_either(tmp_path, audio):
    read = manifest(tmp_path, {"clip_id": None, "audio": audio})
    assert re.fullmatch(r"[a-zA-Zé_\[][a-zA-Z0-9é_ \[-]*-[0-9a-f]{8}", read.clips[0].clip_id)
    assert not manifest(tmp_path, {"clip_id": None, "audio": "x/"}).clips


def test_two_ways_to_write_a_letter_are_one_name(tmp_path):
    read = manifest(tmp_path, {"clip_id": "\u00e9"}, {"clip_id": "e\u0301"}, {"clip_id": "E\u0301"})
    assert not read.clips
    assert {one.error.code for one in read.rejected} == {"clip_id_duplicate"}


def test_the_longest_name_is_written_inside_the_output_folder(tmp_path):
    clip = manifest(tmp_path, {"clip_id": unicodedata.normalize("NFC", "é" * 200)}).clips[0]
    (tmp_path / "v.mp4").write_bytes(b"video")
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    row = Ledger(str(tmp_path / "out")).commit(tmp_path / "v.mp4", clip, {"clip_id": clip.clip_id})
    written = {file for file in tmp_path.rglob("*") if file.is_file()} - before
    assert {file.relative_to(tmp_path / "out").parts[0] for file in written} == {"videos", "done"}
    assert Path(row["uri"]).read_bytes() == b"video"


# --- What may be read ------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """A folder that may be read beside files that may not, and a link that leads from one to the other."""
    for name in ("dub/a.bin", "dub/%2e%2e/b.bin", "dubious/a.bin", "secret.bin", "with space/a.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "dub" / "link.bin").symlink_to(tmp_path / "secret.bin")
    (tmp_path / "dub" / "up").symlink_to(tmp_path)
    (tmp_path / "inside.bin").symlink_to(tmp_path / "dub" / "a.bin")
    (tmp_path / "dub-link").symlink_to(tmp_path / "dub")
    return tmp_path


@pytest.mark.parametrize("kind", ["", "file://"])
@pytest.mark.parametrize("prefix", ["{}/dub", "{}/dub/", "file://{}/dub", "{}/dub-link", "{}/dub/../dub"])
def test_files_must_lie_under_a_prefix(disk, prefix, kind):
    limits = Limits(input_prefixes=["s3://other/x", prefix.format(disk)])
    for name in ("dub/a.bin", "dub/./a.bin", "dub//a.bin", "dub/../dub/a.bin", "inside.bin", "dub/up/dub/a.bin"):
        assert read_input(f"{kind}{disk}/{name}", limits) == b"dub/a.bin"
    for name in (
        *("secret.bin", "dubious/a.bin", "dub/../secret.bin", "dub/link.bin", "dub/up/secret.bin"),
        *("dub-link/../secret.bin", "dub/none/../../secret.bin"),
    ):
        code, message = refusal(read_input, f"{kind}{disk}/{name}", limits)
        assert code == "uri_not_allowed"
        assert "limits.input_prefixes" in message
        # Neither its size nor its hash is told: that would answer whether a file is there, and which.
        assert size_of(f"{kind}{disk}/{name}", limits) == 0
        assert identify(f"{kind}{disk}/{name}", limits).identity == ""


def test_escapes_in_a_uri_do_not_lead_out_of_a_prefix_and_in_a_path_they_are_part_of_the_name(disk):
    limits = Limits(input_prefixes=[f"{disk}/dub"])
    (disk / "dub" / "b.bin").write_bytes(b"decoded")
    assert read_input(f"{disk}/dub/%2e%2e/b.bin", limits) == b"dub/%2e%2e/b.bin"
    assert read_input(f"file://{disk}/dub/%2e%2fb%2ebin", limits) == b"decoded"
    for name in ("%2e%2e/secret.bin", "%2E%2E%2Fsecret.bin", "up%2Fsecret.bin"):
        assert refusal(read_input, f"file://{disk}/dub/{name}", limits)[0] == "uri_not_allowed"
        assert refusal(read_input, f"{disk}/dub/{name}", limits)[0] == "input_not_found"
    assert read_input(f"file://{disk}/with%20space/a.bin", Limits()) == b"with space/a.bin"
    assert read_input(f"file://{disk}/with space/a.bin", Limits()) == b"with space/a.bin"
    assert read_input(f"file://localhost{disk}/with%20space/a.bin", Limits()) == b"with space/a.bin"
    assert refusal(read_input, f"file://{disk}/dub/a%00.bin", limits)[0] == "uri_not_allowed"


def test_a_hint_names_nothing_that_may_not_be_read(disk):
    limits = Limits(input_prefixes=[f"{disk}/dub"])
    for name in ("dub/../SECRET.bin", "dub/up/Secret.bin", "Secret.bin"):
        code, message = refusal(read_input, f"{disk}/{name}", limits)
        assert (code, "secret.bin" in message) == ("uri_not_allowed", False)
    assert "dub/a.bin" in refusal(read_input, f"{disk}/dub/A.bin", limits)[1]


def test_another_spelling_of_a_name_is_held_to_the_same_prefix(tmp_path):
    composed, decomposed = (tmp_path / unicodedata.normalize(form, "dé") for form in ("NFC", "NFD"))
    decomposed.mkdir()
    (decomposed / "a.bin").write_bytes(b"1")
    assert read_input(f"{composed}/a.bin", Limits(input_prefixes=[str(tmp_path)])) == b"1"
    code, _ = refusal(read_input, f"{composed}/a.bin", Limits(input_prefixes=[str(composed)]))
    assert code == "input_not_found"


def test_a_file_uri_with_a_host_is_refused(disk, monkeypatch):
    monkeypatch.chdir(disk)  # what fsspec takes for the host's name is a folder here
    for uri in ("file://dub/a.bin", f"file://server{disk}/dub/a.bin", "file://~/x", "file://../secret.bin"):
        code, message = refusal(read_input, uri, Limits())
        assert code == "uri_not_allowed"
        assert "three slashes" in message


def test_anything_but_a_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in ("/dev/zero", tmp_path / "pipe", tmp_path / "link"):
        code, message = refusal(read_input, str(path), Limits())
        assert code == "uri_not_allowed"
        assert "not a file" in message
        assert identify(str(path), Limits()).identity == ""  # reading to the end would take for ever


def test_a_name_that_no_file_can_have_costs_its_clip_alone_and_no_other_try(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it was tried again"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, why in (
        ("x" * 300, "a name in it has 300 bytes"),
        ("a/" * 3_000, "give a shorter"),
        ("loop", "links lead in a circle"),
    ):
        code, message = refusal(read_input, str(tmp_path / name), Limits())
        assert code == "input_not_found"
        assert why in message
        assert identify(str(tmp_path / name), Limits()).identity == ""  # a plan goes on


def test_control_characters_are_refused(tmp_path):
    for uri in ("/tmp/a\0b", "s3://bucket/a\r\nb", "/tmp/\x1b[2J"):
        code, message = refusal(read_input, uri, Limits())
        assert (code, message.isprintable()) == ("uri_not_allowed", True)


def test_objects_must_lie_under_a_prefix(s3):
    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    fs.pipe_file(f"{s3}/dub/a b.bin", b"allowed")
    fs.pipe_file(f"{s3}/dubious/a.bin", b"secret")
    for prefix in (f"{s3}/dub", f"{s3}/dub/"):
        limits = Limits(input_prefixes=[prefix])
        assert read_input(f"{s3}/dub/a b.bin", limits) == b"allowed"
        code, message = refusal(read_input, f"{s3}/dubious/a.bin", limits)
        assert code == "uri_not_allowed"
        assert f"it is not inside {prefix} (limits.input_prefixes)" in message
    assert read_input(f"{s3}/dubious/a.bin", Limits(input_prefixes=[s3])) == b"secret"


@pytest.mark.parametrize(
    "uri",
    [
        *("s3://bucket/dubious/a", "s3://bucket/dub", "s3://bucket/DUB/a", "s3://bucket-2/dub/a", "s3://bucketdub/a"),
        *("s3://bucket/dub/../a", "s3://bucket/dub/./../a", "s3://bucket/dub//../../a", "s3://bucket/dub/.."),
        *("s3://bucket/dub/%2e%2e/a", "s3://bucket/dub/%2E./a", "s3://bucket/dub/%252e%252e/a"),
        *("s3://bucket/dub/x%2f..%2f..%2fa", "s3://bucket/dub/../../other/a"),
        *(
            "s3://bucket//dub/a",
            "s3:///bucket/dub/a",
            "s3://bucket/./dub/a",
            "s3://bucket/%64ub/a",
            "s3://./bucket/dub/a",
        ),
        *("/bucket/dub/a", "s3:/bucket/dub/a", "file:///s3://bucket/dub/a"),
    ],
)
def test_no_spelling_of_an_object_leads_out_of_its_prefix(uri):
    limits = Limits(input_prefixes=["s3://bucket/dub"])
    check_allowed("s3://bucket/dub/x/a..b.wav", limits)
    check_allowed("s3://bucket/dub/50%.wav", limits)
    assert refusal(check_allowed, uri, limits)[0] == "uri_not_allowed"


def test_a_relative_path_that_leaves_the_bucket_is_seen(tmp_path):
    climbed = uris.resolve("s3://bucket/dub/in", "../../../other/a.wav")
    assert refusal(check_allowed, climbed, Limits(input_prefixes=["s3://bucket/dub"]))[0] == "uri_not_allowed"


@pytest.mark.parametrize("prefix", ["", "dub", "./dub", "~/dub", "s3://", "file://dub", "file://"])
def test_a_prefix_that_says_no_place_is_refused(prefix):
    with pytest.raises(SettingError, match="input_prefixes"):
        Limits(input_prefixes=[prefix])


@pytest.mark.parametrize("scheme", ["nix", "s3://"])
def test_a_scheme_that_nothing_here_can_read_is_refused_before_any_work(scheme):
    with pytest.raises(SettingError, match="allowed_schemes"):
        Limits(allowed_schemes=["s3", scheme])


def test_a_manifest_cannot_use_local_files_where_they_are_not_allowed(disk):
    rows = ("dub/a.bin", f"{disk}/dub/a.bin", f"file://{disk}/dub/a.bin", "../x", "file:dub/a.bin", "~/x", "s3:/b/x")
    clips = manifest(disk, *({"audio": value} for value in rows)).clips
    assert len(clips) == len(rows)
    for clip in clips:
        assert refusal(read_input, clip.audio, Limits(allowed_schemes=["s3"]))[0] == "uri_not_allowed"


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "concat:/etc/hosts|/etc/passwd",
            "subfile,,start,0,end,9,,:/etc/hosts",
            "http:127.0.0.1/x",
            "data:audio/wav,x",
        ),
        *(
            "pipe:0",
            "fd:0",
            "crypto:/etc/hosts",
            "file:/etc/hosts",
            "cache:http://127.0.0.1/x",
            "async:file:/etc/hosts",
        ),
    ],
)
def test_protocols_of_ffmpeg_are_names_of_files_beside_the_manifest(tmp_path, uri):
    clip = manifest(tmp_path, {"audio": uri}).clips[0]
    assert refusal(read_input, clip.audio, Limits())[0] in ("input_not_found", "uri_not_allowed")


# --- Containers that refer to other files ----------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    """An HTTP server that has good sound for whoever asks; gives its address and the paths that were asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(media.SPEECH.read_bytes())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


PLAYLISTS = {
    "m3u": "#EXTM3U\n{}\n",
    "hls": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MAP:URI="{0}"\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n',
    "hls with a key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{0}"\n#EXTINF:9,\n{0}\n#EXT-X-ENDLIST\n',
    "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "concat": "file '{}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT4S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet '
    'mimeType="audio/wav"><Representation id="1" bandwidth="9"><BaseURL>{}</BaseURL></Representation></AdaptationSet>'
    "</Period></MPD>",
    "xml entity": '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "{}">]><MPD>&f;</MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns={}\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 40000 RTP/AVP 0\n",
    "imf": '<?xml version="1.0"?><CompositionPlaylist><Id>{}</Id></CompositionPlaylist>',
}
"""FFmpeg as PyAV 18.1 brings it reads no DASH and no IMF: those two stand here for a build that does."""

PROTOCOLS = ["{}", "file:{}", "concat:{0}|{0}", "subfile,,start,0,end,0,,:{}", "async:{}", "cache:{}"]


@pytest.mark.parametrize("playlist", PLAYLISTS.values(), ids=PLAYLISTS)
def test_a_playlist_named_as_sound_or_video_reads_nothing(playlist, server, tmp_path):
    address, asked = server
    (tmp_path / "secret.wav").write_bytes(media.SPEECH.read_bytes())
    for source in (f"{address}/secret.wav", str(tmp_path / "secret.wav")):
        for protocol in PROTOCOLS:
            data = playlist.format(protocol.format(source)).encode()
            (tmp_path / "speech.wav").write_bytes(data)
            read = read_input(str(tmp_path / "speech.wav"), Limits())
            assert refusal(load_audio, read, Limits())[0] == "audio_unreadable"
            assert refusal(load_pose, read, "pose.mp4", 10, Limits(), None)[0] == "pose_unreadable"
    assert asked == []


def test_the_server_of_these_tests_would_have_been_asked(server, tmp_path):
    address, asked = server
    (tmp_path / "x.ffconcat").write_text(PLAYLISTS["ffconcat"].format(f"{address}/secret.wav"))
    options = {"safe": "0", "protocol_whitelist": "file,http,tcp"}
    with av.open(str(tmp_path / "x.ffconcat"), options=options) as file:
        assert file.streams.audio
    assert asked[0] == "/secret.wav"


# --- What uses up memory ---------------------------------------------------------------------------------------

MEASURE = """
import json, os, re, sys
from pathlib import Path
from pipeline.media.audio import load_audio
from pipeline.common.errors import ClipError
from pipeline.media.image import load_image
from pipeline.common.limits import Limits

def peaks():
    # Address space and resident memory: what was asked for need not be used (libwebp), and what is resident also
    # depends on how the kernel tidies its pages.
    status = Path("/proc/self/status").read_text()
    return [int(re.search(name + r":\\s+(\\d+)", status)[1]) / 1024 for name in ("VmPeak", "VmHWM")]

def measure(kind, file, small, limits):
    load = {"audio": load_audio, "image": load_image}[kind]
    load(Path(small).read_bytes(), Limits())  # what the libraries need once is in memory from here on
    data, before, code = Path(file).read_bytes(), peaks(), "accepted"
    try:
        load(data, Limits(**limits))
    except ClipError as error:
        code = error.code
    print(json.dumps([code, min(now - then for now, then in zip(peaks(), before))]), flush=True)

for line in sys.stdin:
    if not os.fork():  # a process of its own, that need not import everything
        measure(*json.loads(line))
        os._exit(0)
    if os.wait()[1]:
        print('["died", 0]', flush=True)
"""


@pytest.fixture(scope="module")
def measuring():
    """A process that measures others."""
    # Large blocks come from the kernel and go back to it: none is served from what was freed before.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", MEASURE]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT, env=env) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def cost(measuring, tmp_path):
    """Gives (code, megabytes that looking at the file took), in a process of its own."""

    def cost(kind, data, **limits):
        (tmp_path / "bomb").write_bytes(data)
        small = {"audio": media.SPEECH, "image": media.PORTRAIT}[kind]
        print(json.dumps([kind, str(tmp_path / "bomb"), str(small), limits]), file=measuring.stdin, flush=True)
        return json.loads(measuring.stdout.readline())

    return cost


def png(width, height, rows=b"", *chunks):
    """1 bit a pixel."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def webp(width, height):
    """Lossless, its pixels missing."""
    body = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(11)
    chunk = b"WEBPVP8L" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunk)) + chunk


def jpeg(width, height):
    """A good file whose header has another size."""
    data = bytearray(media.picture(media.colours(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


IMAGE_BOMBS = {
    "PNG, all its pixels there": png(20_000, 20_000, bytes(2_501 * 20_000)),
    "PNG, largest that the format has": png(2**31 - 1, 2**31 - 1),
    "PNG, one row": png(2**31 - 1, 64),
    "JPEG": jpeg(65_500, 65_500),
    "WebP": webp(16_383, 16_383),
}


@pytest.mark.slow
@pytest.mark.parametrize("data", IMAGE_BOMBS.values(), ids=IMAGE_BOMBS)
def test_a_huge_image_in_a_small_file_is_refused_before_it_is_decoded(data, cost):
    assert len(data) < 100_000
    code, megabytes = cost("image", data)
    assert code == "image_too_large"
    assert megabytes < 50  # its pixels are 270 MB and more


@pytest.mark.slow
def test_compressed_texts_in_an_image_are_not_unpacked_without_end(cost):
    bomb = zlib.compress(bytes(300_000_000), 9)
    for name, head in ((b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")):
        data = png(64, 64, bytes(9 * 64), (name, head + bomb))
        _, megabytes = cost("image", data)
        assert megabytes < 100


def vector_and_other_formats():
    square = Image.fromarray(media.colours())
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/hosts"/></svg>'
    yield "svg with a declaration", b'<?xml version="1.0"?><!DOCTYPE svg><svg width="64" height="64"/>'
    yield "postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(/etc/hosts) (r) file\nshowpage\n"
    for kind in ("PDF", "EPS", "GIF", "TIFF", "BMP", "ICO", "PPM", "TGA", "ICNS", "JPEG2000"):
        yield kind, media.picture_of(square, kind)


@pytest.mark.parametrize(
    ("kind", "data"), list(vector_and_other_formats()), ids=lambda value: value if type(value) is str else ""
)
def test_formats_that_run_programs_or_that_nobody_needs_are_not_opened(kind, data):
    assert refusal(load_image, data, Limits())[0] == "image_unreadable"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_endless_animation_one_frame_is_decoded(kind, cost):
    frames = [Image.new("RGB", (1000, 1000), (i, 0, 0)) for i in range(40)]
    data = media.picture_of(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 40
    code, megabytes = cost("image", data)
    assert code == "accepted"
    assert megabytes < 60  # all of them are 120 MB


def endless_mp3():
    """Ten hours of silence whose header speaks of a second."""
    second = media.mp3(np.zeros((1, 8_000), np.float32), 8_000)
    start = [at.start() for at in re.finditer(rb"\xff[\xe2\xe3]", second)]
    frame = second[start[3] : start[4]]
    return second + frame * (10 * 3600 * 8_000 // 576)


def unknown_length(flac):
    """The number of samples in the header becomes 0, as live encoders leave it."""
    data = bytearray(flac)
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


@pytest.fixture(scope="module")
def hour():
    """An hour of silence, as FLAC."""
    return media.flac(np.zeros((1, 3600 * 8_000), np.float32), 8_000)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flac", "flac of unknown length", "opus", "mp3"])
def test_hours_of_silence_are_refused_without_decoding_them(kind, hour, cost):
    make = {
        "flac": lambda: hour,
        "flac of unknown length": lambda: unknown_length(hour),
        "opus": lambda: media.opus(np.zeros((1, 1800 * 8_000), np.float32), 8_000, quick=True),
        "mp3": endless_mp3,
    }
    code, megabytes = cost("audio", make[kind](), max_audio_minutes=2)
    assert code == "audio_too_long"
    assert megabytes < 60  # decoded, they are 115 MB (opus), 230 MB (flac) and 2300 MB (mp3)


def cover(width, height):
    """An ID3 tag with a picture as MP3 files have it."""
    picture = b"\0image/png\0\x03\0" + png(width, height, bytes((width // 8 + 1) * height))
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + frame


@pytest.mark.slow
def test_the_cover_of_a_record_is_not_decoded(cost):
    sound = media.mp3(media.tone(), 16_000)
    plain = cost("audio", sound)
    covered = cost("audio", cover(16_000, 16_000) + sound)
    assert (plain[0], covered[0]) == ("accepted", "accepted")
    assert covered[1] < plain[1] + 8  # decoded, it is 14 MB


@pytest.mark.slow
def test_the_frames_of_a_video_are_not_decoded(cost, tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width = video.height = 8_192
        video.pix_fmt = "yuv420p"
        grey = av.VideoFrame.from_ndarray(np.full((8_192 * 3 // 2, 8_192), 128, np.uint8), "yuv420p")
        file.mux(video.encode(grey))
        file.mux(video.encode(None))
    code, megabytes = cost("audio", path.read_bytes())
    assert code == "audio_no_stream"
    assert megabytes < 50  # one picture is 100 MB


# --- Weights ---------------------------------------------------------------------------------------------------


class Harmful:
    """Pickled, a command that is run by whoever loads it."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_checkpoint_that_would_run_code_is_not_converted(save, tmp_path):
    save({"state_dict": Harmful(tmp_path / "ran")}, tmp_path / "float.pth")
    done = run_job("convert", f"float={tmp_path / 'float.pth'}", f"output={tmp_path / 'out'}")
    assert done.returncode == 2
    assert f"error: float: {tmp_path / 'float.pth'} could not be loaded" in done.stderr
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "float.pth", weights_only=False) if save is torch.save else pickle.loads(
        (tmp_path / "float.pth").read_bytes()
    )
    assert (tmp_path / "ran").exists()  # elsewhere it does its harm


def test_pickles_in_a_model_folder_run_nothing(tiny_model, tmp_path):
    """The encoders are loaded by transformers, which also knows pickled weights."""
    folder = tmp_path / "content"
    folder.mkdir()
    config = json.loads((tiny_model.path / "content_encoder" / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "code.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Model: pass\n")
    torch.save({"x": Harmful(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"(?i)weights_only|unsupported|unpickl"):
        load_content_encoder(folder)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_under_the_name_of_the_weights_is_not_loaded(tiny_model, tmp_path):
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    torch.save({"x": Harmful(tmp_path / "ran")}, weights)
    folder = type(tiny_model)(**{**vars(tiny_model), "path": weights.parent})
    with pytest.raises(Exception, match=r"(?i)header"):
        load_float(folder)
    assert not (tmp_path / "ran").exists()


# --- Secrets ---------------------------------------------------------------------------------------------------

SIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAHIDDEN/2026/s3&X-Amz-Signature=hiddensignature"
SECRETS = ("hiddenpassword", "hiddensignature", "AKIAHIDDEN", "hiddensecretkey", "hiddentoken")


def secret_rows(folder, s3):
    """Rows that carry secrets, rows that fail, and one whose storage refuses the credentials."""
    (folder / "a.png").write_bytes(media.PORTRAIT.read_bytes())
    return [
        {"audio": f"https://user:hiddenpassword@host/a.wav?{SIGNED}"},
        {"image": f"https://host/a.png?{SIGNED}"},
        {"audio": "s3://user:hiddenpassword@bucket/a.wav"},
        {"audio": "s3://bucket/a.wav?versionId=1&Signature=hiddensignature&AWSAccessKeyId=AKIAHIDDEN"},
        {"audio": f"https://host/{SIGNED.replace('X-Amz-Algorithm', '?x')}", "clip_id": None},
        {"audio": {"url": f"https://user:hiddenpassword@host/a.wav?{SIGNED}"}},
        {"audio": f"zip://a::https://user:hiddenpassword@host/a.zip?{SIGNED}"},
        {"audio": f"{s3}/security/none.wav"},
    ]


def without_secrets(text):
    """The text, which must hold none of them."""
    assert [secret for secret in SECRETS if secret in text] == []
    return text


@pytest.fixture
def wrong_key(s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hiddensecretkey")
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def test_no_secret_reaches_rows_or_logs(s3, wrong_key, tmp_path, tiny_model, caplog, capfd):
    read = manifest(tmp_path, *secret_rows(tmp_path, s3))
    run = Run(Ledger(str(tmp_path / "out"), "r"), read, Selection(), Limits(), {}, 1.0)
    run.make_plan()
    run.begin()
    rows = []
    for clip in run.plan.todo:
        try:
            load_inputs(clip, Limits(), 32, VideoSettings())
        except Exception as error:
            rows.append(error_row(clip, error, "features"))
    run.collect(rows, lambda row: None)
    table = write_tables(run)
    run.close("finished", 1)
    write_summary(run)
    rows = pq.read_table(table).to_pylist()
    assert [row["error_code"] for row in rows] == ["uri_not_allowed"] * 5 + [
        "value_invalid",
        "uri_not_allowed",
        "storage_error",
    ]
    assert "remove them" in rows[0]["error_message"]
    without_secrets(json.dumps(rows, default=str))
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file() and file.suffix != ".parquet":  # compressed; they were read above and below
            without_secrets(file.read_text())
    without_secrets(str(pq.read_table(tmp_path / "out" / "plan.parquet").to_pylist()))
    without_secrets(caplog.text)
    without_secrets("".join(capfd.readouterr()))


@pytest.mark.parametrize("flags", [["--check"], ["--dry-run"], ["executor=serial"]], ids=" ".join)
def test_no_secret_reaches_the_screen(s3, wrong_key, tmp_path, tiny_model, capfd, flags):
    manifest(tmp_path, *secret_rows(tmp_path, s3))
    job = [f"manifest={tmp_path / 'm.jsonl'}", f"output={tmp_path / 'o'}", f"model={tiny_model.path}"]
    done = run_job("render", *job, *flags)
    assert done.returncode == 1, done.stderr
    assert "uri_not_allowed" in without_secrets(done.stdout + done.stderr)
    without_secrets("".join(capfd.readouterr()))  # of libraries that write past Python


def test_a_manifest_that_cannot_be_read_reveals_no_secret(s3, wrong_key, monkeypatch):
    for uri in ("s3://user:hiddenpassword@bucket/m.csv", f"https://host/m.csv?{SIGNED}&x=.csv", f"{s3}/security/m.csv"):
        with pytest.raises((ManifestError, StorageError)) as caught:
            read_manifest(uri)
        without_secrets(str(caught.value))


def test_an_endpoint_with_a_password_is_not_told(s3, monkeypatch):
    monkeypatch.setattr(objects, "TRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hiddenpassword@127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        code, message = refusal(read_input, f"{s3}/security/a.wav", Limits())
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
    assert code == "storage_error"
    without_secrets(message)


def test_a_message_of_the_storage_loses_the_keys_of_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hiddensecretkey")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "hiddentoken\n")  # http.client then quotes it in its error
    said = redacted(f"Invalid header value b'hiddentoken\\n'; hiddensecretkey; GET http://a:hiddenpassword@h/?{SIGNED}")
    assert "GET http://***h/?" in without_secrets(said)
    assert (
        redacted("s3://bucket/a@b/token.wav: no signature = none") == "s3://bucket/a@b/token.wav: no signature = none"
    )
