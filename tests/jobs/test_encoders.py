"""`jobs.encoders` as a person runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import Wav2Vec2Model

from models import EMOTIONS
from models.encoders import load_content_encoder, load_emotion_encoder
from pipeline.listening.networks import load_phoneme_model
from tests.spoken import write_corpus

ROOT = Path(__file__).parents[2]

SMALL = (
    *("size.hidden=24", "size.layers=2", "size.heads=2", "size.channels=[12,12,12,16,16,24,24]", "threads=1"),
    *("content.batch=6", "content.seconds=1", "content.stretch=0.05", "content.learning_rate=0.005"),
    *("emotion.batch=4", "emotion.seconds=1", "split.validation=0.2", "split.test=0.1"),
)


def command(*arguments):
    return [sys.executable, "-m", "jobs.encoders", *arguments]


def run(*arguments):
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), 12)


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
    assert "jobs.corpus" in done.stderr


@pytest.mark.slow
def test_encoders_learn_what_voices_who_were_held_out_say(corpus, tmp_path):
    out = tmp_path / "out"
    done = run(f"corpus={corpus}", f"output={out}", "content.steps=300", "emotion.steps=10", *SMALL)
    assert done.returncode == 0, done.stderr
    figures = json.loads((out / "figures.json").read_text())
    content = figures["content"]
    assert content["all"]["phoneme_error_rate"] < 0.3
    assert content["all"]["frame_accuracy"] > 0.8 > content["most_frequent"]["frame_accuracy"]
    assert content["probe"]["frame_accuracy"] > content["probe_untrained"]["frame_accuracy"]
    assert set(content["languages"]) == {"en", "de"}
    assert [one["file"] for one in figures["people"]][-1] == "speech_kokoro_jf.wav"
    assert sum(map(sum, figures["emotion"]["confusion"])) == figures["clips"]["held_out"]
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
def test_an_interrupted_run_goes_on_to_the_same_weights(corpus, tmp_path):
    settings = ("content.steps=24", "emotion.steps=4", "watch.every=4", f"corpus={corpus}", *SMALL)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run(f"output={whole}", *settings).returncode == 0
    process = subprocess.Popen(command(f"output={stopped}", *settings), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (stopped / "checkpoints" / "content.pt").exists() and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    assert "the same command goes on" in process.communicate()[1]
    assert process.returncode == 130
    assert not (stopped / "figures.json").exists()
    done = run(f"output={stopped}", *settings)
    assert done.returncode == 0
    assert "done before" in done.stdout
    for name in ("content_encoder", "emotion_encoder"):
        assert (stopped / name / "model.safetensors").read_bytes() == (whole / name / "model.safetensors").read_bytes()
    refused = run(f"output={stopped}", *settings, "seed=1")
    assert refused.returncode == 2
    assert "give another output" in refused.stderr


@pytest.mark.slow
def test_a_content_encoder_goes_on_from_another_one(corpus, tmp_path):
    settings = (f"corpus={corpus}", "content.steps=2", "content.distorted=0.5", "emotion.steps=1", *SMALL)
    begin = f"content.begin={tmp_path / 'first' / 'content_encoder'}"
    still = "content.learning_rate=0"
    runs = {"first": ["seed=1"], "second": [begin, still], "third": [begin], "fresh": [still]}
    weights = {}
    for name, arguments in runs.items():
        done = run(f"output={tmp_path / name}", *settings, *arguments)
        assert done.returncode == 0, done.stderr
        weights[name] = (tmp_path / name / "content_encoder" / "model.safetensors").read_bytes()
    assert weights["second"] == weights["first"]
    assert len(set(weights.values())) == 3
    refused = run(f"output={tmp_path / 'fourth'}", *settings, begin, "size.hidden=32")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: content.begin: ")


@pytest.mark.slow
def test_emotions_alone_are_trained_beside_a_content_encoder_that_is_there(corpus, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    settings = (f"corpus={corpus}", "content.steps=1", "emotion.steps=2", *SMALL)
    assert run(f"output={first}", *settings).returncode == 0
    done = run(f"output={second}", f"content_of={first}", "seed=1", *settings)
    assert done.returncode == 0, done.stderr
    assert "emotion: 2 steps" in done.stdout
    assert "content: 1 steps" not in done.stdout
    weights = [
        [(out / f"{name}_encoder" / "model.safetensors").read_bytes() for out in (first, second)]
        for name in ("content", "emotion")
    ]
    assert weights[0][0] == weights[0][1]
    assert weights[1][0] != weights[1][1]
    refused = run(f"output={tmp_path / 'third'}", f"content_of={tmp_path}", *settings)
    assert refused.returncode == 2
    assert f"content_of={tmp_path} is no output of jobs.encoders" in refused.stderr


@pytest.mark.slow
def test_the_layout_loads_in_transformers_without_a_warning(corpus, tmp_path, caplog):
    out = tmp_path / "out"
    done = run(f"corpus={corpus}", f"output={out}", "content.steps=1", "emotion.steps=1", *SMALL)
    assert done.returncode == 0, done.stderr
    _, told = Wav2Vec2Model.from_pretrained(out / "content_encoder", output_loading_info=True)
    assert not any(told.values())
    assert not caplog.records
