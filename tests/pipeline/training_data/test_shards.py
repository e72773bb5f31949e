from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from pipeline.storage.uris import join
from pipeline.training_data.shards import CLIP_SCHEMA, LATENT_SCHEMA, Shards, write_shard


def clip(number, split="train", frames=80):
    generator = np.random.default_rng(number)
    return {
        "clip_id": f"clip-{number}",
        "split": split,
        "speaker": f"speaker {number}",
        "source": "film.mp4",
        "fps": 25.0,
        "frames": frames,
        "size": 64,
        "crop_box": [0.0, 1.0, 64.0, 65.0],
        "pose": generator.standard_normal((frames, 6), dtype=np.float32),
        "components": generator.random((frames, 3, 4), dtype=np.float32),
        "video": b"mp4",
        "wave": generator.integers(-9, 9, frames * 640, dtype=np.int16),
    }


def test_any_sample_is_read_alone_from_disk_and_object_storage(output, tmp_path):
    clips = [clip(number, split) for number, split in enumerate(["train", "train", "validation", "test"])]
    assert write_shard(clips[2:], join(output, "b.parquet"), CLIP_SCHEMA, tmp_path) == 2
    assert write_shard(clips[:2], join(output, "a.parquet"), CLIP_SCHEMA, tmp_path) == 2
    shards = Shards(output)
    assert [row["clip_id"] for row in shards.rows] == ["clip-0", "clip-1", "clip-2", "clip-3"]
    assert shards.frames.tolist() == [80] * 4
    for index in (3, 0, 2):
        found = shards.read(index, "pose", "components", "wave", "video", "crop_box")
        for name, value in found.items():
            assert np.array_equal(value, clips[index][name])
    held_out = Shards(output, ["validation"])
    assert [row["speaker"] for row in held_out.rows] == ["speaker 2"]
    part = shards.only("validation")
    assert part.rows == held_out.rows
    assert part.frames.tolist() == [80]
    assert np.array_equal(part.read(0, "wave")["wave"], clips[2]["wave"])
    assert len(shards) == len(shards.frames) == 4
    assert held_out.only("train") is None
    with ThreadPoolExecutor(4) as threads:
        poses = list(threads.map(lambda index: shards.read(index, "pose")["pose"], [0, 1, 2, 3] * 5))
    assert all(np.array_equal(pose, clips[i % 4]["pose"]) for i, pose in enumerate(poses))


def test_latents_have_their_shapes_and_name_their_model(tmp_path):
    motion = np.arange(8, dtype=np.float32).reshape(4, 2)
    content = np.arange(12, dtype=np.float16).reshape(4, 3)
    row = {"clip_id": "a", "split": "train", "frames": 4, "motion": motion, "content": content}
    schema = LATENT_SCHEMA.with_metadata({"model_hash": "abc"})
    write_shard([row], str(tmp_path / "l" / "a.parquet"), schema, tmp_path)
    shards = Shards(str(tmp_path / "l"))
    found = shards.read(0, "motion", "content", "image_emotion")
    assert np.array_equal(found["motion"], motion)
    assert np.array_equal(found["content"], content)
    assert found["image_emotion"] is None
    assert shards.metadata["model_hash"] == "abc"


def test_a_folder_without_samples_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="no shards"):
        Shards(str(tmp_path))
    write_shard([clip(1)], str(tmp_path / "a.parquet"), CLIP_SCHEMA, tmp_path)
    with pytest.raises(FileNotFoundError, match="split test"):
        Shards(str(tmp_path), ["test"])


def test_a_wrong_type_is_no_sample(tmp_path):
    with pytest.raises(pa.ArrowException):
        write_shard([clip(1) | {"frames": "many"}], str(tmp_path / "a.parquet"), CLIP_SCHEMA, tmp_path)
