"""`python -m jobs.train` as a person runs it: real Ray Train, workers that die, runs that are stopped and go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models import ModelFolder
from pipeline.storage import local_model
from pipeline.training.curves import read_curves
from tests.jobs.test_render import table
from tests.prepared import write_prepared
from tests.tiny import DATA

SMALL = ("optimiser.batch=4", "optimiser.learning_rate=1e-3", "watch.log_every=1", "watch.samples=2")
NO_CRITICS = (
    "reconstruction.adversarial=0",
    "reconstruction.component_adversarial=0",
    "reconstruction.feature_style=0",
)


def command(*arguments):
    return [sys.executable, "-m", "jobs.train", *map(str, arguments)]


def run(*arguments, job="jobs.train", python=sys.executable, **environment):
    return subprocess.run(
        [python, "-m", job, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_prepared(str(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def phase1(tmp_path_factory, data, tiny_model):
    """A model folder whose auto-encoder counts as trained."""
    output = tmp_path_factory.mktemp("phase1") / "out"
    done = run(
        "stage=autoencoder",
        f"data={data}",
        f"output={output}",
        f"model={tiny_model.path}",
        *NO_CRITICS,
        *SMALL,
        "optimiser.steps=2",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return output / "model"


def losses(output):
    return {step: value for step, name, value in read_curves(str(output)) if name == "train/loss"}


# --- What is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stage": ""}, "stage: give a value"),
        ({"model": "", "preset": ""}, "model, preset: give one of them"),
        ({"optimiser.steps": "0"}, "optimiser.steps: give the number of steps"),
        ({"stage": "third"}, "stage: 'third' is not allowed; it must be str, one of autoencoder, motion"),
        ({"data": "/nowhere"}, "jobs.prepare makes them"),
        ({"stage": "motion"}, "auto-encoder is untrained"),
        ({"adapter.rank": "4"}, "low-rank adapters are for the transformer"),
        ({"variant.emotion": "image"}, "needs a face emotion classifier"),
        ({"model": "", "preset": "pocket"}, "content_encoder: a new model needs one"),
        ({"size": "48"}, "size: a model of 32 px can only grow"),
        ({"workers.least": "2"}, "workers.number"),
        ({"workers.number": "9"}, "a batch of 8 does not keep 9 workers busy"),
        ({"optimiser.stepps": "2"}, "did you mean optimiser.steps?"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_its_key(data, tiny_model, tmp_path, changed, said):
    given = {
        "stage": "autoencoder",
        "data": data,
        "output": tmp_path / "out",
        "model": tiny_model.path,
        "optimiser.steps": 2,
    }
    done = run(*(f"{key}={value}" for key, value in (given | changed).items() if value != ""))
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr


def test_help_has_every_key():
    done = run("--help")
    assert done.returncode == 0
    for key in ("optimiser.ema", "variant.objective", "adapter.rank", "workers.least", "reconstruction.vgg", "stage"):
        assert f"  {key}  (" in done.stdout


# --- Training --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_that_is_killed_and_a_job_that_is_stopped_change_no_loss(data, phase1, tmp_path):
    arguments = [
        "stage=motion",
        f"data={data}",
        f"model={phase1}",
        *SMALL,
        "watch.log_every=10",
        "watch.save_every=400",  # Ray takes 2 s for each
        "watch.validate_every=1000",
    ]
    whole = run(*arguments, f"output={tmp_path / 'whole'}", "optimiser.steps=4000")
    assert whole.returncode == 0, whole.stdout + whole.stderr
    output = tmp_path / "hit"
    job = subprocess.Popen(
        command(*arguments, f"output={output}", "optimiser.steps=4000"), stdout=subprocess.PIPE, text=True
    )
    wait_for_step(output, 800)
    time.sleep(4)  # what was reported in the last two seconds before a death may be lost
    workers = children(job.pid, "RayTrainWorker")
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    time.sleep(1)
    before = newest_step(output)
    assert before < 3500, "the run is too short for what is tested"
    wait_for_step(output, before + 400)  # it goes on by itself
    job.send_signal(signal.SIGTERM)
    text, _ = job.communicate(timeout=120)
    assert job.returncode == 130, text
    assert "from step" in text  # the second group of workers began at a checkpoint
    again = run(*arguments, f"output={output}", "optimiser.steps=4000")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "from step" in again.stdout
    assert losses(output) == losses(tmp_path / "whole")
    one, other = (ModelFolder.open(folder / "model") for folder in (output, tmp_path / "whole"))
    assert one.files == other.files  # the same weights, to the bit


def newest_step(output):
    states = sorted(Path(output).glob("checkpoints/checkpoint_*/state.json"))
    texts = [text for state in states if (text := state.read_text())]  # Ray is writing one that is empty
    return json.loads(texts[-1])["step"] if texts else 0


def wait_for_step(output, step):
    end = time.monotonic() + 180
    while newest_step(output) < step:
        assert time.monotonic() < end, f"no checkpoint of step {step}"
        time.sleep(0.05)


def children(pid, name):
    """Ids of the processes below `pid` whose command line begins with `name`, as Ray names its actors."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
            if entry.name.isdigit() and f"ray::{name}" in line and pid in ancestors(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def ancestors(pid):
    found = []
    while pid > 1:
        found.append(pid)
        stat = (Path("/proc") / str(pid) / "stat").read_text()
        pid = int(stat.rsplit(")", 1)[1].split()[1])
    return found


@pytest.mark.slow
def test_two_ray_workers_follow_one(data, tiny_model, tmp_path):
    arguments = ["stage=autoencoder", f"data={data}", f"model={tiny_model.path}", *SMALL, "optimiser.steps=6"]
    arguments += ["reconstruction.critic_width=0.02"]
    for number in (1, 2):
        done = run(*arguments, f"output={tmp_path / str(number)}", f"workers.number={number}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{number} workers on cpu" in done.stdout
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    assert list(one) == list(two) == [1, 2, 3, 4, 5, 6]
    assert list(two.values()) == pytest.approx(list(one.values()), rel=1e-3)


@pytest.mark.slow
def test_training_in_object_storage_and_the_model_that_comes_out_renders(s3, phase1, tmp_path):
    """Data, checkpoints and model on S3; then adapters on the model that was trained, and a video with them."""
    base = f"{s3}/train-{tmp_path.name}"
    data = write_prepared(f"{base}/data")
    arguments = ["stage=motion", f"data={data}", *SMALL]
    for steps in (2, 4):
        done = run(*arguments, f"output={base}/full", f"model={phase1}", f"optimiser.steps={steps}", "name=studio")
        assert done.returncode == 0, done.stdout + done.stderr
    assert "from step 2 to step 4" in done.stdout
    tuned = run(
        *arguments,
        f"output={base}/tuned",
        f"model={base}/full/model",
        "adapter.rank=2",
        "optimiser.steps=3",
        "name=anna",
    )
    assert tuned.returncode == 0, tuned.stdout + tuned.stderr
    folder = local_model(f"{base}/tuned/model")
    assert (folder.name, folder.trained) == ("anna", True)
    assert [entry.get("adapter_rank") for entry in folder.history] == [None, None, 2]
    assert folder.history[-1]["parent"] == local_model(f"{base}/full/model").hash
    rendered = run(
        f"model={base}/tuned/model", f"output={tmp_path / 'videos'}", "limit=1", "qc.enabled=false", job="jobs.render"
    )
    assert rendered.returncode == 0, rendered.stdout + rendered.stderr
    (row,) = (row for row in table(tmp_path / "videos").values() if row["status"] == "done")
    assert (row["model"], row["model_hash"], row["model_trained"]) == ("anna", folder.hash, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    [
        {"objective": "x0", "conditioning": "cross_attention"},
        {"objective": "epsilon", "emotion": "none"},
        {"pose": "head"},
    ],
)
def test_a_variant_is_trained_from_another_models_auto_encoder(data, phase1, tmp_path, variant):
    keys = [f"variant.{name}={value}" for name, value in variant.items()]
    arguments = ["stage=motion", f"data={data}", f"model={phase1}", *SMALL, *keys, f"output={tmp_path / 'out'}"]
    done = run(*arguments, "optimiser.steps=2")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = ModelFolder.open(tmp_path / "out" / "model")
    assert {name: getattr(folder.config, name) for name in variant} == variant
    assert folder.trained
    assert folder.encoders_hash() == ModelFolder.open(phase1).encoders_hash()
    other = run(*arguments, "optimiser.steps=4", "optimiser.seed=9")
    assert other.returncode == 2
    assert "another model than these settings begin with" in other.stderr


@pytest.mark.slow
def test_a_model_grows_and_gets_other_ears(data, phase1, tmp_path):
    parent = ModelFolder.open(phase1)
    arguments = ["stage=autoencoder", f"data={data}", *NO_CRITICS, *SMALL, "optimiser.steps=1"]
    encoders = [f"content_encoder={parent.path / 'content_encoder'}", f"emotion_encoder={DATA / 'tiny_ser'}"]
    grown = run(*arguments, f"output={tmp_path / 'grown'}", f"model={phase1}", "size=64", *encoders)
    assert grown.returncode == 0, grown.stdout + grown.stderr
    folder = ModelFolder.open(tmp_path / "grown" / "model")
    assert folder.config.channels == (*parent.config.channels, parent.config.channels[-1] // 2)
    assert [entry["stage"] for entry in folder.history] == ["autoencoder", "autoencoder"]
    assert folder.files["emotion_encoder/model.safetensors"] == parent.files["emotion_encoder/model.safetensors"]


@pytest.mark.slow
def test_a_new_model_of_a_preset_by_a_python_with_a_space_in_its_path(data, tmp_path):
    (tmp_path / "my python").symlink_to(sys.prefix)
    python = str(tmp_path / "my python" / "bin" / "python")
    encoders = [f"content_encoder={DATA / 'tiny_wav2vec2'}", f"emotion_encoder={DATA / 'tiny_ser'}"]
    arguments = [
        "stage=autoencoder",
        f"data={data}",
        f"output={tmp_path / 'out'}",
        "preset=pocket",
        "size=64",
        *encoders,
    ]
    done = run(*arguments, *NO_CRITICS, *SMALL, "optimiser.steps=1", "licence=CC0-1.0", "name=mine", python=python)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = ModelFolder.open(tmp_path / "out" / "model")
    assert (folder.name, folder.licence, folder.config.image_size, folder.trained) == ("mine", "CC0-1.0", 64, False)
    assert "SUBSTITUTE for VGG-19" in done.stdout
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["steps"] == 1
    checked = run(*arguments, *NO_CRITICS, *SMALL, "optimiser.steps=1", "licence=CC0-1.0", "--check")
    assert checked.returncode == 0
    assert "2 train, 1 validation, 0 test" in checked.stdout
