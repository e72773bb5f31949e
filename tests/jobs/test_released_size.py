"""A programme and a dialogue with the released architecture and random weights: sizes, frames, what goes on."""

import json
from itertools import pairwise

import av
import pyarrow.parquet as pq
import pytest
import torch

from models import FLOAT, FloatConfig, save_model
from tests import media
from tests.pipeline.render.test_full_frames import pasted
from tests.running import run_job
from tests.tiny import DATA

LENGTHS = (1_100, 1_700)
"""Samples at 16 kHz: three and four frames at 29.97 fps, and six of both."""


@pytest.mark.slow
def test_a_programme_and_a_dialogue_have_the_size_and_exactly_their_frames(tmp_path):
    from models.encoders import load_content_encoder, load_emotion_encoder  # seconds, for transformers

    torch.manual_seed(0)
    content, feeling = load_content_encoder(DATA / "tiny_wav2vec2"), load_emotion_encoder(DATA / "tiny_ser")
    # As the released one, but with a quarter of its blocks and of its pictures' sides, and with tiny speech encoders:
    # at its whole size tests/models/test_released_parity.py samples a programme.
    model = FLOAT(FloatConfig(channels=FloatConfig.channels[:6], blocks=2, content_dim=content.dim)).eval()
    save_model(tmp_path / "model", model, content, feeling, name="full", licence="test", trained=False)
    del model
    samples, _ = media.speech()
    for number, length in enumerate(LENGTHS):
        (tmp_path / f"{number}.wav").write_bytes(media.wav(samples[:, 9_000 : 9_000 + length]))
    pasted(320, 180, ("2022", 10, 20, 140), ("2016", 165, 30, 130)).save(tmp_path / "two.png")
    common = {"image": str(media.PORTRAIT), "emotion": "happy", "nfe": 1}
    rows = [
        common | {"clip_id": f"c{n}", "audio": f"{n}.wav", "programme": "show", "order": n, "seed": 3} for n in (0, 1)
    ]
    faces = [{"face": 1, "audio": "0.wav"}, {"face": 2, "idle": True}]
    rows.append(common | {"clip_id": "talk", "image": "two.png", "frame": "full", "faces": faces, "silence": "model"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = ("render", f"manifest={tmp_path / 'm.jsonl'}", f"model={tmp_path / 'model'}", f"output={tmp_path / 'out'}")
    limits = ("limits.min_audio_seconds=0.01", "video.fps=29.97", "qc.enabled=false", "render.mode=eager")
    done = run_job(*job, *limits, "executor=serial")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {row["clip_id"]: row for row in pq.read_table(tmp_path / "out" / "clips.parquet").to_pylist()}
    sizes = {name: (row["width"], row["height"], row["frames"]) for name, row in found.items()}
    assert sizes == {"c0": (128, 128, 3), "c1": (128, 128, 3), "talk": (320, 180, 3)}
    for row in found.values():
        with av.open(row["uri"]) as file:
            assert sum(1 for _ in file.decode(video=0)) == row["frames"]
    for before, row in pairwise([found["c0"], found["c1"]]):
        assert row["continues"] == f"c0.{before['fingerprint']}"
        assert row["programme_frame"] == before["frames"]
    assert len(json.loads(found["talk"]["faces_animated"])) == 2
