"""Side-by-side videos: one per real video, with labelled tiles for the reference and each system's video of it."""

import io
import re
import tempfile
import wave
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from models.pixels import to_tensor
from pipeline.common.child import in_child
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.stage import Resources, Stage
from pipeline.evaluation.compare import in_step, in_step_frames
from pipeline.evaluation.files import features
from pipeline.evaluation.stage import Row, guarded
from pipeline.evaluation.watch import probe
from pipeline.measure.video_pass import Frame
from pipeline.media.audio import load_audio
from pipeline.media.contact_sheet import Tile, contact_sheet, in_rows
from pipeline.media.mp4 import write_video
from pipeline.media.planes import rgb_to_yuv420
from pipeline.media.settings import VideoSettings
from pipeline.storage.objects import put_file
from pipeline.storage.set_aside import clear_way
from pipeline.storage.untrusted import input_file
from pipeline.storage.uris import join

FOLDER = "comparison"
ACROSS = 4
"""Largest number of tiles in a row."""
STRIP = 28
"""Height of a label, px."""


def side_by_side_items(rows: Sequence[Row], videos: Mapping[str, Row], count: int) -> Iterator[Row]:
    """The items of the stage: the first references of the manifest, each with the videos of all systems."""
    done = sorted((row for row in rows if row["status"] == "done"), key=lambda row: row["row"])
    names: Counter[str] = Counter()
    for reference in list(dict.fromkeys(row["reference"] for row in done))[:count]:
        ours = {row["system"]: row["generated"] for row in done if row["reference"] == reference}
        stem = re.sub(r"[^\w-]+", "_", reference.rsplit("/", 1)[-1].rsplit(".", 1)[0]).strip("_")[:100] or "video"
        names[stem] += 1
        shown = [("reference", reference), *ours.items()]
        tiles = [{"label": label, "uri": uri, "name": videos[uri]["name"]} for label, uri in shown]
        number = f"-{names[stem]}" if names[stem] > 1 else ""
        yield {"reference": reference, "tiles": tiles, "file": f"{stem}{number}.mp4"}


class ComparisonStage(Stage):
    """{reference, tiles: [{label, uri, name}], file} -> the same with status, uri and notes."""

    name = "comparison"

    def __init__(self, output: str, side: int, limits: Limits, resources: Resources | None = None) -> None:
        self.resources = resources or Resources()
        self._output, self._side, self._limits = output, side, limits

    def process(self, items: Sequence[Row]) -> Iterator[Row]:
        """Write one side-by-side video per item; the first tile is the reference."""
        for item in items:
            yield guarded(self._comparison, item, {key: item[key] for key in ("reference", "file")})

    def _comparison(self, item: Row) -> Row:
        uri, tiles = join(self._output, FOLDER, item["file"]), item["tiles"]
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="floatcast-")))
            paths = [stack.enter_context(input_file(tile["uri"], self._limits)) for tile in tiles]
            times = []
            for tile in tiles:
                with features(self._output, tile["name"], "times") as kept:
                    times.append(np.array(kept, dtype=np.float64))
            labels, local = [tile["label"] for tile in tiles], folder / "comparison.mp4"
            title = item["reference"]
            number, notes = in_child(_written, local, paths, times, labels, self._side, title, self._limits)
            clear_way(uri, self._output)
            put_file(local, uri)
        return {
            "reference": item["reference"],
            "file": item["file"],
            "status": "done",
            "uri": uri,
            "frames": number,
            "notes": notes,
        }


def _written(
    local: Path, paths: list[Path], times: list[np.ndarray], labels: list[str], side: int, title: str, limits: Limits
) -> tuple[int, list[str]]:
    """Write the video, in a child process; returns the number of its frames, and notes."""
    torch.set_num_threads(1)  # images are small, and threads would wait for one another
    fps = probe(paths[0], limits).fps
    numbers, notes = _together(times, fps)
    aac = _sound(paths[0], len(numbers[0]) / fps, limits, notes)
    across, down = min(ACROSS, len(paths)), -(-len(paths) // ACROSS)
    size = (across * side, down * (side + STRIP))
    pictures = (_picture(frames, labels, side) for frames in in_step_frames(paths, numbers, limits))
    planes = (rgb_to_yuv420(to_tensor(np.array(picture)))[0].numpy() for picture in pictures)
    write_video(planes, local, size, VideoSettings(fps=str(fps)), aac, {"title": title})
    return len(numbers[0]), notes


def _together(times: list[np.ndarray], fps: Fraction) -> tuple[list[np.ndarray], list[str]]:
    """Frame numbers of each video on the reference's timeline, all cut to the shortest.

    And a note about what was cut.
    """
    clock = np.arange(len(times[0])) / float(fps)
    numbers = [in_step(clock, one) for one in times]
    length = min(map(len, numbers))
    notes = []
    if length < len(clock) or any(one[-1] - one[0] > (length + 1) / float(fps) for one in times):
        notes.append(f"cut to {length / float(fps):.2f} s, the length of the shortest video")
    return [one[:length] for one in numbers], notes


def _picture(frames: Sequence[Frame], labels: Sequence[str], side: int) -> Image.Image:
    """One image with all tiles, at most four in a row, with their labels above them."""
    tiles = []
    for frame, label in zip(frames, labels, strict=True):
        scale = side / max(frame.av_frame.width, frame.av_frame.height)
        width, height = (max(2, round(scale * one)) for one in (frame.av_frame.width, frame.av_frame.height))
        small = frame.av_frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray()
        tiles.append(Tile(small, label))
    return contact_sheet(in_rows(tiles, ACROSS), side=side, line=STRIP)


def _sound(path: Path, seconds: Fraction, limits: Limits, notes: list[str]) -> bytes:
    """The audio of the video as AAC in an MP4, cut to `seconds`; silence if the reference has none."""
    try:
        aac = load_audio(path.read_bytes(), limits).sound
    except ClipError as error:
        notes.append(f"no audio: the reference's audio could not be read: {error.message}")
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(bytes(2 * max(1600, round(seconds * 16_000))))
        aac = load_audio(buffer.getvalue(), Limits(allow_silence=True)).sound
    return _cut(aac, seconds)


def _cut(aac: bytes, seconds: Fraction) -> bytes:
    """The first packets, up to `seconds`."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(aac), "r") as source, av.open(buffer, "w", format="mp4") as target:
        stream = source.streams.audio[0]
        copy = target.add_stream_from_template(stream)
        for packet in _until(source.demux(stream), seconds):
            packet.stream = copy
            target.mux(packet)
    return buffer.getvalue()


def _until(packets: Iterator[av.Packet], seconds: Fraction) -> Iterator[av.Packet]:
    for packet in packets:
        if packet.dts is None or packet.dts * packet.time_base >= seconds:
            return
        yield packet
