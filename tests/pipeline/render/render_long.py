"""Render clips of so many minutes and print by how much the process grew for each: `MODEL OUTPUT MINUTES ...`.

A test runs this in a process of its own, as memory that another test has left would hide what is used.
"""

import io
import json
import sys
from pathlib import Path

import av
import numpy as np

from models import ModelFolder
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.clip import Clip
from pipeline.media.settings import VideoSettings
from pipeline.render.engine import Engine
from pipeline.render.feature_stage import ClipFeatures
from pipeline.render.settings import EngineSettings
from tests.memory import growth


def silence(minutes: float) -> bytes:
    """AAC in MP4, encoded second by second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=8_000)
        for second in range(round(minutes * 60)):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8_000), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 8_000, second * 8_000
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def features(minutes: float, name: str) -> ClipFeatures:
    random = np.random.default_rng(0)
    frames = round(minutes * 60 * 25)
    clip = Clip(1, name, "", "", {"happy": 1.0}, 0, 1, 2.0, 1.0, 1.0, "none")
    return ClipFeatures(
        clip=clip,
        portrait=random.integers(0, 256, (32, 32, 3), dtype=np.uint8),
        speech=random.standard_normal((frames, 16), dtype=np.float32),
        emotion=np.eye(7, dtype=np.float32)[3],
        sound=silence(minutes),
        frames=frames,
        audio_seconds=minutes * 60,
        faces_found=None,
        face_box=None,
    )


def main() -> None:
    model, output, *minutes = sys.argv[1:]
    settings = EngineSettings(device="cpu", frame_batch=25, slots=1)
    engine = Engine(ModelFolder.open(Path(model)), settings, VideoSettings(speed="ultrafast"), Ledger(output))
    list(engine.process([features(0.1, "warm")]))
    for text in minutes:
        item, rows = features(float(text), f"{text}-minutes"), []
        megabytes = growth(lambda item=item, rows=rows: rows.extend(engine.process([item])))
        assert rows[0]["status"] == "done", rows
        print(json.dumps({"frames": rows[0]["frames"], "megabytes": megabytes}))


if __name__ == "__main__":
    main()
