"""jobs.research.study as a person runs it, on small shards with an untrained model: it measures, and is honest."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from models import EMOTIONS, load_float
from pipeline.research.corpus.units import CURVES
from pipeline.research.study.feeling import render_feelings
from pipeline.research.study.metric import CLAIMS
from pipeline.research.study.reader import Reader, ReaderNetwork
from pipeline.research.study.rendering import Renderer
from pipeline.research.study.settings import PARTS, EmotionSettings, SpeechSettings
from pipeline.storage.uris import join
from pipeline.training_data.cutting import ClipWriter
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.shards import CLIP_SCHEMA, CLIPS, LATENT_SCHEMA, LATENTS, Shards, write_shard
from tests.prepared import pictures, sample, smooth
from tests.running import run_job
from tests.tiny import CONFIG, save_tiny_model

FRAMES = 50


def clip(number, speaker, split, emotion, curves=True):
    """A clip of moving colours with sound, and curves that are smooth and mean nothing."""
    writer = ClipWriter(ClipSettings(size=32, crf=4))
    for picture in pictures(number % 3, FRAMES):
        writer.write(picture)
    boxes = np.array([[0.2, 0.2, 0.45, 0.4], [0.55, 0.2, 0.8, 0.4], [0.3, 0.6, 0.7, 0.9]], np.float32)
    return sample(number, FRAMES) | {
        "clip_id": f"clip-{number:03d}",
        "split": split,
        "speaker": speaker,
        "emotion": emotion,
        "size": 32,
        "crop_box": [0.0, 0.0, 32.0, 32.0],
        "components": np.tile(boxes, (FRAMES, 1, 1)),
        "video": writer.close(),
        "wave": (3000 * smooth(number, FRAMES * 640, 1)[:, 0]).astype(np.int16),
        "curves": np.abs(smooth(number, FRAMES, len(CURVES))) if curves else None,
    }


def write_corpus(folder, emotions=EMOTIONS[2:6], curves=True, encoders=None):
    """Two speakers to train on and two held out. `encoders`: hash of the model whose latents these are to be."""
    rows = []
    for speaker, split in (("a", "train"), ("b", "train"), ("c", "validation"), ("d", "test")):
        rows += [clip(len(rows) + i, speaker, split, emotion, curves) for i, emotion in enumerate(emotions)]
    write_shard(rows, join(str(folder), CLIPS, "a.parquet"), CLIP_SCHEMA, folder)
    if encoders:
        latents = [row | latent(number) for number, row in enumerate(rows)]
        schema = LATENT_SCHEMA.with_metadata({"encoders_hash": encoders})
        write_shard(latents, join(str(folder), LATENTS, "a.parquet"), schema, folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory, tiny_model):
    return write_corpus(tmp_path_factory.mktemp("data"), encoders=tiny_model.encoders_hash())


def latent(number):
    return {
        "motion": smooth(100 + number, FRAMES, CONFIG.latent_dim),
        "content": smooth(200 + number, FRAMES, CONFIG.content_dim).astype(np.float16),
        "speech_emotion": np.full(7, 1 / 7, np.float32),
    }


SMALL = (
    *("frames.pairs=12", "frames.train_clips=4", "frames.clips=4", "frames.per_clip=6"),
    *("speech.clips=2", "speech.seconds=1", "speech.nfe=1", "reader.per_clip=8", "reader.epochs=1"),
    *("emotion.portraits=1", "emotion.heard_clips=2", "emotion.seconds=1"),
)


@pytest.mark.slow
def test_an_untrained_model_is_measured_and_meets_nothing(data, tmp_path, tiny_model):
    output = tmp_path
    done = run_job("research.study", f"data={data}", f"model={tiny_model.path}", f"output={output}", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "UNTRAINED" in done.stdout
    assert "not met" in done.stdout
    found = json.loads((output / "figures.json").read_text())
    metrics = {metric["key"]: metric for metric in found["figures"]}
    assert abs(metrics["reconstruction.mouth.over_shuffled"]["value"]) < 0.5
    assert metrics["reconstruction.mouth.over_shuffled"]["speakers"] == 2
    assert metrics["reconstruction.mouth.over_shuffled"]["count"] == 12
    verdicts = {claim["figure"]: claim["verdict"] for claim in found["claims"]}
    assert set(verdicts) == {claim.key for claim in CLAIMS}
    assert verdicts["reconstruction.mouth.over_shuffled"] == "not met"
    assert verdicts["probe.yaw"] == "not met"
    assert verdicts["speech.landmarks_rig.correlation"] == "not measured"  # nothing in these pictures is a face
    assert metrics["speech.landmarks.film_faces"]["value"] == 0
    assert any("landmarks" in note for note in found["notes"])
    assert metrics["emotion.redirected.accuracy"]["count"] == 7
    assert metrics["emotion.heard.agrees"]["count"] == 2
    page = (output / "study.html").read_text()
    assert page.count("<img") == 4
    assert "Worst pairs of frames" in page
    assert "UNTRAINED" in page
    assert (output / "reader.safetensors").is_file()

    again = run_job(
        "research.study", f"data={data}", f"model={tiny_model.path}", f"output={output}", *SMALL, "parts=[emotion]"
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "training epochs of the reader" not in again.stdout  # it is kept
    repeated = {metric["key"]: metric for metric in json.loads((output / "figures.json").read_text())["figures"]}
    assert repeated["emotion.redirected.accuracy"] == metrics["emotion.redirected.accuracy"]


@pytest.mark.slow
def test_an_emotion_is_predicted_from_the_whole_clip_however_little_of_it_is_rendered(data, tiny_model):
    shards = Shards(join(str(data), CLIPS))
    lengths = []

    class Attentive(Renderer):
        def predicted_emotion(self, wave):
            lengths.append(len(wave))
            return super().predicted_emotion(wave)

        def frames(self, picture, wave, **told):
            lengths.append(len(wave))
            return super().frames(picture, wave, **told)

    renderer = Attentive(tiny_model, load_float(tiny_model), SpeechSettings(nfe=1))
    settings = EmotionSettings(portraits=1, heard_clips=2, seconds=1)
    train, held_out = shards.only("train"), shards.only("test")
    render_feelings(renderer, Reader(ReaderNetwork()), train, held_out, settings)
    assert lengths == [25 * 640] * len(EMOTIONS) + [FRAMES * 640, 25 * 640] * 2


@pytest.mark.slow
def test_ablations_compare_settings_and_say_which_model_has_no_latents(data, tmp_path, tiny_model):
    cross = save_tiny_model(tmp_path / "cross", conditioning="cross_attention")
    other = tmp_path / "other"
    shutil.copytree(tiny_model.path, other)
    weights = load_file(other / "model.safetensors")
    save_file(weights | {"autoencoder.encoder.stem.weight": 2 * weights["autoencoder.encoder.stem.weight"]},
              other / "model.safetensors")  # fmt: skip
    config = json.loads((other / "config.json").read_text())
    config["files"]["model.safetensors"] = hashlib.sha256((other / "model.safetensors").read_bytes()).hexdigest()
    (other / "config.json").write_text(json.dumps(config))
    models = f"models=[{tiny_model.path}, {cross.path}, {other}]"
    small = ("ablations.clips=4", "ablations.seconds=2", "ablations.portraits=2", "ablations.pairs=6")
    grid = ("ablations.nfe=[1]", "ablations.audio=[1]", "ablations.emotion=[]")
    done = run_job(
        "research.study", "stage=ablations", f"data={data}", models, f"output={tmp_path / 'out'}", *small, *grid
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "latents_of_another_model" in done.stdout
    found = json.loads((tmp_path / "out" / "ablations.json").read_text())
    settings = [(line["variant"].get("conditioning"), line["setting"]) for line in found["lines"]]
    usual, fast, quiet = "nfe 10, audio 2, emotion 1", "nfe 1, audio 2, emotion 1", "nfe 10, audio 1, emotion 1"
    pixels, true = "frames reconstructed", "true motion"
    of_first = [("adaln", pixels), (None, true), ("adaln", usual), ("adaln", fast), ("adaln", quiet)]
    of_second = [("cross_attention", pixels), (None, true), ("cross_attention", usual)]
    assert settings == [*of_first, *of_second, ("adaln", pixels)]
    paired = [any(one["key"].endswith("over_first") for one in line["figures"]) for line in found["lines"]]
    assert paired == [False] * 5 + [True, False, False, True]  # reconstructed frames of all models but the first
    values = {metric["key"]: metric for metric in found["lines"][1]["figures"]}
    assert values["jaw.spread"]["value"] == pytest.approx(1)
    assert {"jaw.correlation", "frechet", "emotion.recognised", "happy.smile"} <= {
        metric["key"] for metric in found["lines"][2]["figures"]
    }
    assert (tmp_path / "out" / "ablations.html").read_text().count("<svg") >= 10


def test_samples_without_curves_are_refused_with_what_to_do(tmp_path, tiny_model):
    data = write_corpus(tmp_path, emotions=["happy"], curves=False)
    done = run_job(
        "research.study",
        f"data={data}",
        f"model={tiny_model.path}",
        f"output={tmp_path / 'out'}",
        "parts=[probe]",
        *SMALL,
    )
    assert done.returncode == 2
    assert "curves_missing" in done.stderr
    assert "corpus.csv" in done.stderr


def test_settings_that_cannot_be_are_refused_by_name(tmp_path):
    done = run_job("research.study", "data=x", "model=pocket", f"output={tmp_path}", "parts=[hair]")
    assert done.returncode == 2
    assert "parts" in done.stderr
    assert PARTS[0] in done.stderr
    done = run_job("research.study", "data=x", "model=pocket", f"output={tmp_path}", "splits=[train]")
    assert done.returncode == 2
    assert "splits" in done.stderr
