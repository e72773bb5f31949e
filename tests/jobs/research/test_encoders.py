"""`jobs.research.encoders` as a person runs it."""

import json
import signal

import pytest
import torch
from transformers import Wav2Vec2Model

from models import EMOTIONS
from models.encoders import load_content_encoder, load_emotion_encoder
from pipeline.research.speech_encoders.networks import load_phoneme_model
from pipeline.research.speech_encoders.training import Run
from tests.running import run_job
from tests.spoken import write_corpus

SMALL = (
    *("size.hidden=24", "size.layers=2", "size.heads=2", "size.channels=[12,12,12,16,16,24,24]", "threads=1"),
    *("content.batch=6", "content.seconds=1", "content.stretch=0.05", "content.learning_rate=0.005"),
    *("emotion.batch=4", "emotion.seconds=1", "split.validation=0.2", "split.test=0.1"),
)


def run(*arguments):
    return run_job("research.encoders", *arguments)


SHORT = (*SMALL, "content.steps=8", "emotion.steps=4", "watch.every=4")

ENCODERS = ("content_encoder", "emotion_encoder")


def weights(output, name):
    return (output / name / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), 12)


@pytest.fixture(scope="module")
def first(corpus, tmp_path_factory):
    """What a short run leaves."""
    output = tmp_path_factory.mktemp("first")
    done = run(f"corpus={corpus}", f"output={output}", *SHORT)
    assert done.returncode == 0, done.stderr
    return output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["output=x"], "corpus: give a folder"),
        (["corpus=x"], "output: give a folder"),
        (["corpus=x", "output=x", "emotion.start=me"], "emotion.start"),
        (["corpus=x", "output=x", "size.hidden=20"], "size.hidden"),
    ],
)
def test_settings_that_are_missing_or_wrong_are_refused_by_their_key(arguments, message, tmp_path):
    done = run(*(argument.replace("=x", f"={tmp_path}") for argument in arguments))
    assert done.returncode == 2
    assert message in done.stderr


def test_an_empty_corpus_is_refused_by_its_key(tmp_path):
    done = run(f"corpus={tmp_path}", f"output={tmp_path / 'out'}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: corpus: ")
    assert "jobs.research.corpus" in done.stderr


@pytest.mark.slow
def test_encoders_learn_what_voices_who_were_held_out_say(corpus, tmp_path):
    out = tmp_path / "out"
    done = run(f"corpus={corpus}", f"output={out}", "content.steps=300", "emotion.steps=10", *SMALL)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((out / "figures.json").read_text())
    content = metrics["content"]
    assert content["all"]["phoneme_error_rate"] < 0.3
    assert content["all"]["frame_accuracy"] > 0.8 > content["most_frequent"]["frame_accuracy"]
    assert content["probe"]["frame_accuracy"] > content["probe_untrained"]["frame_accuracy"]
    assert set(content["languages"]) == {"en", "de"}
    assert [one["file"] for one in metrics["people"]][-1] == "speech_kokoro_jf.wav"
    assert sum(map(sum, metrics["emotion"]["confusion"])) == metrics["clips"]["held_out"]
    # What jobs.train takes, read as large encoders are
    assert load_content_encoder(out / "content_encoder").dim == content["dim"] == 48
    emotion = load_emotion_encoder(out / "emotion_encoder")(torch.randn(1, 16_000))
    assert emotion.shape == (1, len(EMOTIONS))
    model, symbols = load_phoneme_model(
        out / "content_encoder", out / "phoneme_head.safetensors", out / "phonemes.json"
    )
    assert symbols == content["symbols"] == ["", "a", "i", "u"]
    assert model(torch.randn(1, 16_000))[-1].shape == (1, 25, 4)
    # What a person reads
    assert "jobs.train" in done.stdout
    assert "<svg" in (out / "encoders.html").read_text()
    assert "ETA" in done.stdout or done.stderr == "" or "%" in done.stderr


@pytest.mark.slow
def test_an_interrupted_run_resumes_and_reaches_the_same_weights(corpus, first, tmp_path, monkeypatch):
    settings, save = (f"corpus={corpus}", f"output={tmp_path}", *SHORT), Run.save

    def save_and_be_stopped(run):
        save(run)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "save", save_and_be_stopped)
        ended = run(*settings)
    assert ended.returncode == 130
    assert "run the same command again to resume" in ended.stderr
    assert (tmp_path / "checkpoints" / "content.pt").exists()
    assert not (tmp_path / "figures.json").exists()
    done = run(*settings)
    assert done.returncode == 0
    assert "content: 8 steps, 4 done before" in done.stdout
    for name in ENCODERS:
        assert weights(tmp_path, name) == weights(first, name)
    refused = run(*settings, "seed=1")
    assert refused.returncode == 2
    assert "give another output" in refused.stderr


@pytest.mark.slow
def test_a_content_encoder_starts_from_another_one(corpus, first, tmp_path):
    settings = (f"corpus={corpus}", f"content.begin={first / 'content_encoder'}", "seed=1", "content.distorted=0.5")
    for name, *still in (("still", "content.learning_rate=0"), ("further",)):
        done = run(f"output={tmp_path / name}", *SHORT, *settings, *still)
        assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "still", "content_encoder") == weights(first, "content_encoder")
    assert weights(tmp_path / "further", "content_encoder") != weights(first, "content_encoder")
    refused = run(f"output={tmp_path / 'other'}", *SHORT, *settings, "size.hidden=32")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: content.begin: ")


@pytest.mark.slow
def test_emotions_alone_are_trained_beside_a_content_encoder_that_is_there(corpus, first, tmp_path):
    done = run(f"corpus={corpus}", f"output={tmp_path}", f"content_of={first}", *SHORT, "seed=1")
    assert done.returncode == 0, done.stderr
    assert "emotion: 4 steps" in done.stdout
    assert "content: 8 steps" not in done.stdout
    assert weights(tmp_path, "content_encoder") == weights(first, "content_encoder")
    assert weights(tmp_path, "emotion_encoder") != weights(first, "emotion_encoder")
    refused = run(f"corpus={corpus}", f"output={tmp_path / 'other'}", f"content_of={corpus}", *SHORT)
    assert refused.returncode == 2
    assert f"content_of: {corpus} is not an output of jobs.research.encoders" in refused.stderr


@pytest.mark.slow
def test_the_layout_loads_in_transformers_without_a_warning(first, caplog):
    _, told = Wav2Vec2Model.from_pretrained(first / "content_encoder", output_loading_info=True)
    assert not any(told.values())
    assert not caplog.records
