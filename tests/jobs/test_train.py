"""`jobs.train` as a person runs it: what it refuses, stopping and going on, with and without Ray, what comes out."""

import json
import signal
import subprocess
import sys

import psutil
import pytest

from models import ModelFolder
from pipeline.storage.model_cache import local_model
from pipeline.storage.objects import filesystem
from pipeline.training import loop
from pipeline.training.checkpoint import newest
from pipeline.training.curves import read_curves
from tests.jobs.test_render import table
from tests.running import run_job
from tests.tiny import DATA

SMALL = ("optimiser.batch=4", "optimiser.learning_rate=1e-3", "watch.log_every=1", "watch.samples=2")
NO_CRITICS = (
    "reconstruction.adversarial=0",
    "reconstruction.component_adversarial=0",
    "reconstruction.feature_style=0",
)


def train(*arguments):
    """The job in this process, without Ray."""
    return run_job("train", "executor=serial", *arguments)


def trained(*arguments):
    """The same where it is to go well; returns what it printed."""
    done = train(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def losses(output):
    return {step: value for step, name, value in read_curves(str(output)) if name == "train/loss"}


# --- What is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stage": ""}, "give a value for stage;"),
        ({"model": "", "preset": ""}, "give a value for model (the one to start from) or preset"),
        ({"optimiser.steps": "0"}, "give a value for optimiser.steps;"),
        ({"stage": "third"}, "stage: 'third' is not allowed; it must be str, one of autoencoder, motion"),
        ({"data": "/nowhere"}, "jobs.prepare creates it"),
        ({"stage": "motion"}, "auto-encoder is untrained"),
        ({"adapter.rank": "4"}, "low-rank adapters are only for the transformer"),
        ({"variant.emotion": "image"}, "needs a face emotion classifier"),
        ({"model": "", "preset": "pocket"}, "content_encoder: a new model needs one"),
        ({"size": "48"}, "size: a model of 32 px can only grow"),
        ({"workers.least": "2"}, "workers.number"),
        ({"workers.number": "9"}, "a batch of 8 samples cannot keep 9 workers busy"),
        ({"workers.number": "2"}, "executor=serial has only one worker"),
        ({"optimiser.stepps": "2"}, "did you mean optimiser.steps?"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_its_key(prepared, tiny_model, tmp_path, changed, said):
    given = {
        "stage": "autoencoder",
        "data": prepared,
        "output": tmp_path / "out",
        "model": tiny_model.path,
        "optimiser.steps": 2,
    }
    done = train(*(f"{key}={value}" for key, value in (given | changed).items() if value != ""))
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr


def test_help_has_every_key():
    done = run_job("train", "--help")
    assert done.returncode == 0
    for key in ("optimiser.ema", "variant.objective", "adapter.rank", "workers.least", "reconstruction.vgg", "stage"):
        assert f"  {key}  (" in done.stdout


# --- Training --------------------------------------------------------------------------------------------------


def test_a_job_that_is_stopped_resumes_from_its_newest_checkpoint_and_nothing_changes(
    prepared, phase1_model, tmp_path, monkeypatch
):
    arguments = ["stage=motion", f"data={prepared}", f"model={phase1_model}", *SMALL, "watch.save_every=2"]
    arguments += ["watch.keep=2", "optimiser.steps=7"]
    trained(*arguments, f"output={tmp_path / 'whole'}")
    output = tmp_path / "stopped"
    store = loop.store

    def store_and_stop(folder, uri, step, keep):
        store(folder, uri, step, keep)
        if step == 4:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop, "store", store_and_stop)
    stopped = train(*arguments, f"output={output}")
    assert stopped.returncode == 130
    assert "run the same command again to resume from the newest checkpoint" in stopped.stderr
    said = trained(*arguments, f"output={output}")
    assert "motion: from step 4 to step 7, 1 workers on cpu" in said
    assert losses(output) == losses(tmp_path / "whole")
    assert list(losses(output)) == [1, 2, 3, 4, 5, 6, 7]
    one, other = (ModelFolder.open(folder / "model") for folder in (output, tmp_path / "whole"))
    assert one.files == other.files  # the same weights, to the bit
    kept = sorted(path.name for path in (output / "checkpoints").iterdir())
    assert kept == ["checkpoint_000000006", "checkpoint_000000007"]
    again = trained(*arguments, f"output={output}")
    assert "step 7 of 7 is done already" in again
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["state"], summary["step"], summary["loss"]) == ("finished", 7, losses(output)[7])


@pytest.mark.slow
def test_a_run_begun_without_ray_survives_a_killed_worker_and_a_stopped_job_with_it_and_ends_without(
    prepared, phase1_model, tmp_path
):
    """By a Python with a space in its path, too."""
    (tmp_path / "my python").symlink_to(sys.prefix)
    arguments = ["stage=motion", f"data={prepared}", f"model={phase1_model}", *SMALL, "watch.save_every=1"]
    output = tmp_path / "hit"
    trained(*arguments, f"output={output}", "optimiser.steps=3")
    # More steps than are ever made: it ends by being stopped.
    command = [tmp_path / "my python" / "bin" / "python", "-m", "jobs.train", *arguments, f"output={output}"]
    job = subprocess.Popen([*command, "optimiser.steps=1000000"], stdout=subprocess.PIPE, text=True)
    try:
        assert wait_for(job, "motion: from") == "motion: from step 3 to step 1000000, 1 workers on cpu"
        wait_for(job, "step 6 of")
        (worker,) = workers_of(job)
        worker.kill()  # within moments of the last checkpoint, as there is one in each step
        worker.wait()
        reported = newest(str(output)).step
        assert reported >= 5
        begun = wait_for(job, "motion: from")
        assert begun == f"motion: from step {reported} to step 1000000, 1 workers on cpu"
        wait_for(job, f"step {reported + 2} of")
        (worker,) = workers_of(job)
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=300) == 130
        psutil.wait_procs([worker])
    finally:
        job.kill()
    last = newest(str(output)).step
    assert last >= reported + 1
    said = trained(*arguments, f"output={output}", f"optimiser.steps={last + 2}")
    assert f"motion: from step {last} to step {last + 2}, 1 workers on cpu" in said
    trained(*arguments, "watch.save_every=1000000", f"output={tmp_path / 'whole'}", f"optimiser.steps={last + 2}")
    assert losses(output) == losses(tmp_path / "whole")
    one, other = (ModelFolder.open(folder / "model") for folder in (output, tmp_path / "whole"))
    assert one.files == other.files


def wait_for(job, beginning):
    """The next line of a job that begins so."""
    for line in job.stdout:
        if line.startswith(beginning):
            return line.strip()
    raise AssertionError(f"the job ended without a line {beginning!r}: {job.wait()}")


def workers_of(job):
    """Processes of its Ray Train workers, which Ray calls so in their command lines."""
    below = psutil.Process(job.pid).children(recursive=True)
    return [process for process in below if "ray::RayTrainWorker" in " ".join(process.cmdline())]


@pytest.mark.slow
def test_training_in_object_storage_and_the_model_that_comes_out_renders(s3, prepared, phase1_model, tmp_path):
    """Data, checkpoints and model on S3; then adapters on the model that was trained, and a video with them."""
    base = f"{s3}/train-{tmp_path.name}"
    fs, path = filesystem(f"{base}/data")
    fs.put(prepared, path, recursive=True)
    arguments = ["stage=motion", f"data={base}/data", *SMALL]
    full = [*arguments, f"output={base}/full", f"model={phase1_model}", "name=studio"]
    trained(*full, "optimiser.steps=1")
    assert "from step 1 to step 2" in trained(*full, "optimiser.steps=2")
    tuned = [*arguments, f"output={base}/tuned", f"model={base}/full/model", "name=anna"]
    trained(*tuned, "adapter.rank=2", "optimiser.steps=1")
    folder = local_model(f"{base}/tuned/model")
    assert (folder.name, folder.trained) == ("anna", True)
    assert [entry.get("adapter_rank") for entry in folder.history] == [None, None, 2]
    assert folder.history[-1]["parent"] == local_model(f"{base}/full/model").hash
    videos = tmp_path / "videos"
    rendered = run_job(
        "render", "executor=serial", f"model={base}/tuned/model", f"output={videos}", "limit=1", "qc.enabled=false"
    )
    assert rendered.returncode == 0, rendered.stdout + rendered.stderr
    (row,) = (row for row in table(videos).values() if row["status"] == "done")
    assert (row["model"], row["model_hash"], row["model_trained"]) == ("anna", folder.hash, True)


@pytest.mark.parametrize(
    "variant",
    [
        {"objective": "x0", "conditioning": "cross_attention"},
        {"objective": "epsilon", "emotion": "none"},
        {"pose": "head"},
    ],
)
def test_a_variant_is_trained_from_another_models_auto_encoder(prepared, phase1_model, tmp_path, variant):
    keys = [f"variant.{name}={value}" for name, value in variant.items()]
    arguments = ["stage=motion", f"data={prepared}", f"model={phase1_model}", f"output={tmp_path / 'out'}"]
    trained(*arguments, *SMALL, *keys, "optimiser.steps=2")
    folder = ModelFolder.open(tmp_path / "out" / "model")
    assert {name: getattr(folder.config, name) for name in variant} == variant
    assert folder.trained
    assert folder.encoders_hash() == ModelFolder.open(phase1_model).encoders_hash()
    other = train(*arguments, *SMALL, *keys, "optimiser.steps=4", "optimiser.seed=9")
    assert other.returncode == 2
    assert "does not match the model that these settings start from" in other.stderr


def test_a_model_grows_and_gets_other_speech_encoders(prepared, phase1_model, tmp_path):
    parent = ModelFolder.open(phase1_model)
    arguments = ["stage=autoencoder", f"data={prepared}", *NO_CRITICS, *SMALL, "optimiser.steps=1"]
    encoders = [f"content_encoder={parent.path / 'content_encoder'}", f"emotion_encoder={DATA / 'tiny_ser'}"]
    trained(*arguments, f"output={tmp_path / 'grown'}", f"model={phase1_model}", "size=64", *encoders)
    folder = ModelFolder.open(tmp_path / "grown" / "model")
    assert folder.config.channels == (*parent.config.channels, parent.config.channels[-1])
    assert [entry["stage"] for entry in folder.history] == ["autoencoder", "autoencoder"]
    assert folder.files["emotion_encoder/model.safetensors"] == parent.files["emotion_encoder/model.safetensors"]


def test_a_new_model_of_a_preset(prepared, tmp_path):
    encoders = [f"content_encoder={DATA / 'tiny_wav2vec2'}", f"emotion_encoder={DATA / 'tiny_ser'}"]
    arguments = ["stage=autoencoder", f"data={prepared}", f"output={tmp_path / 'out'}", "preset=pocket", "size=32"]
    arguments += [*encoders, *NO_CRITICS, "optimiser.batch=1", "optimiser.steps=1", "licence=CC0-1.0"]
    said = trained(*arguments, "name=mine")
    folder = ModelFolder.open(tmp_path / "out" / "model")
    assert (folder.name, folder.licence, folder.config.image_size, folder.trained) == ("mine", "CC0-1.0", 32, False)
    assert "SUBSTITUTE for VGG-19" in said
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["steps"] == 1
    assert "2 train, 1 validation, 0 test" in trained(*arguments, "--check")
