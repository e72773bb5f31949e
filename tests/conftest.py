import os
import sys

# Compiled modules are kept, those of the libraries too: pip has left them to whoever imports them first, as most are
# never imported. Without them each process of a job would compile again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import json
import runpy
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import s3fs
import torch

from models import ModelFolder, load_float
from models.fast.private_cache import private_folder
from pipeline.render.mouth_probe import mouth_of
from pipeline.storage.model_cache import POCKET, local_model
from tests import certificates
from tests.prepared import write_prepared
from tests.running import Ended, run_job
from tests.scheduling import (  # noqa: F401 (hooks)
    on_ray,
    pytest_collection_modifyitems,
    pytest_configure_node,
    pytest_runtest_teardown,
    pytest_xdist_make_scheduler,
)
from tests.shared import folder_of_the_run, made_once
from tests.skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401 (hooks)
from tests.tiny import save_tiny_model

S3_CONFIG = """{"identities": [{"name": "test", "credentials": [{"accessKey": "testkey", "secretKey": "testsecret"}],
"actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}"""

# A shell starts background jobs with Ctrl-C ignored, and tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Test processes share the cores: threads of one would wait, spinning, for cores that the other has.
torch.set_num_threads(1)

# The compiler's workers would each import PyTorch first, to share the same cores.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

# Ray would start processes of its own to collect figures about its use, and to ask a cloud in each training whether it
# is about to take a machine back.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")

# Ray's workers would have what the other test processes leave of the cores: next to nothing, and a test that waits for
# them lasts three times as long.
os.environ.setdefault("RAY_worker_niceness", "0")

POISON = Path(__file__).with_name("poison")
runpy.run_path(str(POISON / "sitecustomize.py"))  # its storages, in this process too

PORT_OPTIONS = (
    *("s3.port", "master.port", "master.port.grpc", "volume.port"),
    *("volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port.grpc"),
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Hold the quick round: a test without the mark `slow` starts neither Ray nor a process of a job."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("slow") is None:
            patch.setattr(subprocess.Popen, "__init__", _without_ray_and_jobs(subprocess.Popen.__init__))
        return (yield)


def pytest_runtest_setup(item):
    if on_ray(item) and item.get_closest_marker("slow") is None:
        pytest.fail("a test that needs Ray has the mark `slow`")  # also where another one has started it


def _without_ray_and_jobs(start):
    def start_quickly(self, args, *more, **options):
        words = [args] if isinstance(args, str | bytes | os.PathLike) else [str(word) for word in args]
        of_a_job = any(word == "-m" and module.startswith("jobs.") for word, module in pairwise(words))
        if of_a_job or Path(os.fsdecode(words[0])).name in ("ray", "raylet", "gcs_server"):
            pytest.fail(f"a test that starts {' '.join(map(str, words))} has the mark `slow`")
        start(self, args, *more, **options)

    return start_quickly


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a complete, very small model."""
    made = made_once(tmp_path_factory, "tiny", lambda folder: save_tiny_model(folder / "model"))
    return ModelFolder.open(made / "model")


@dataclass(frozen=True)
class Rendered:
    """What a rendering job left, and how it ended."""

    output: Path
    ended: Ended


@pytest.fixture(scope="session")
def rendered_demo(tiny_model, tmp_path_factory):
    """The demo by the very small model, in this process and with quality control, from a folder with a space in its
    name. Only for reading: a test that changes it copies the folder."""

    def render(made):
        (made / "my videos").mkdir()
        arguments = [f"model={tiny_model.path}", "embed_videos=true", "executor=serial"]
        ended = run_job("render", *arguments, cwd=made / "my videos")
        (made / "ended.json").write_text(json.dumps(asdict(ended)))

    made = made_once(tmp_path_factory, "rendered", render)
    return Rendered(made / "my videos" / "out", Ended(**json.loads((made / "ended.json").read_text())))


@pytest.fixture
def compiled_cache(tmp_path, tmp_path_factory):
    """An empty cache of compiled modules. The headers of PyTorch, which take longest, are compiled once in each run."""
    cache = tmp_path / "compiled"
    cache.mkdir(mode=0o700)
    (cache / "headers").symlink_to(folder_of_the_run(tmp_path_factory, "headers"), target_is_directory=True)
    return cache


@pytest.fixture(scope="session")
def bundled_mouth(tmp_path_factory):
    """A cache of the project ($FLOATCAST_CACHE) in which this run has found the mouth of the bundled model."""

    def probe(cache):
        model = local_model(POCKET)
        mouth_of(load_float(model), model.hash, private_folder(cache / "mouths"))

    return made_once(tmp_path_factory, "mouth", probe)


@pytest.fixture(scope="session")
def studio():
    """A signer whom an authority vouches for."""
    return certificates.identity()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Folder of small training data, as `jobs.prepare` writes it; nobody writes into it."""
    return str(made_once(tmp_path_factory, "prepared", lambda folder: write_prepared(str(folder))))


@pytest.fixture(scope="session")
def phase1_model(tmp_path_factory, prepared, tiny_model):
    """Folder of a very small model whose auto-encoder was trained on `prepared`, if only for two steps."""
    weights = (f"reconstruction.{name}=0" for name in ("adversarial", "component_adversarial", "feature_style"))
    arguments = ["stage=autoencoder", f"data={prepared}", f"model={tiny_model.path}", *weights]
    arguments += ["executor=serial", "optimiser.steps=2", "optimiser.batch=4"]

    def train(made):
        done = run_job("train", *arguments, f"output={made}")
        assert done.returncode == 0, done.stdout + done.stderr

    return made_once(tmp_path_factory, "phase1", train) / "model"


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server on this machine; gives the URI of a bucket, and the environment its credentials."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "s3.json").write_text(S3_CONFIG)
    port = free_ports(len(PORT_OPTIONS))
    weed = Path(sys.executable).with_name("weed")
    command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
    command += ["-volume.max=20", "-master.volumeSizeLimitMB=64", "-master.volumePreallocate=false", "-filer", "-s3"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder / 's3.json'}", "-s3.iam=false"]
    command += [f"-{option}={port + i}" for i, option in enumerate(PORT_OPTIONS)]
    endpoint = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until_it_answers(endpoint, server, folder / "log")
        credentials = {
            "AWS_ACCESS_KEY_ID": "testkey",
            "AWS_SECRET_ACCESS_KEY": "testsecret",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        os.environ |= credentials
        s3fs.S3FileSystem().mkdir("tests")
        yield "s3://tests"
    finally:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
            os.environ.pop(name, None)
        server.kill()  # on SIGTERM its services end one after the other, in half a minute, and nobody needs the data
        server.wait()


@pytest.fixture(scope="session")
def local_ray(s3):
    """Ray in this test process, once for all tests that are not about starting it; gives its resources.

    Jobs that run in this process use it too. Its GPUs are only counted: what lands on them computes on the CPU. Its
    processes have the storages of tests/poison, as this one has, and the credentials of `s3`. `tests/scheduling.py`
    lets it end with the last test that uses it.
    """
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(POISON), prepend=os.pathsep)
        # A worker that has nothing to do would end after a second, and the next test start another one.
        kept = {"num_workers_soft_limit": 8}
        ray.init("local", num_cpus=4, num_gpus=2, include_dashboard=False, logging_level="error", _system_config=kept)
    return ray.cluster_resources()


@pytest.fixture(scope="session")
def opengl():
    """What draws the generated corpus."""
    from pipeline.research.corpus.scene import GraphicsError, context

    os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's renderer reads it once, and would take all cores
    try:
        context()
    except GraphicsError as error:
        pytest.skip(str(error))


def free_ports(count):
    """First of `count` free ports in a row; above Ray's own, which end at 19999."""
    # Processes of one run, and two runs at once, look in different places.
    start = 20_000 + 5_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) + os.getpid() % 500 * count
    for first in range(start, start + 5_000, count):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for i, one in enumerate(sockets):
                one.bind(("127.0.0.1", first + i))
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
        return first
    raise RuntimeError("no free ports")


def wait_until_it_answers(endpoint, server, log, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(endpoint, timeout=5)
        except urllib.error.HTTPError as error:
            if error.code == 403:  # up, and it wants credentials
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the S3 server did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(params=["disk", "s3"])
def output(request, tmp_path):
    """An output folder, on local disk and in object storage."""
    if request.param == "disk":
        return str(tmp_path / "out")
    return f"{request.getfixturevalue('s3')}/outputs/{tmp_path.name}"


@pytest.fixture
def faulty_s3(s3, tmp_path, monkeypatch):
    """The S3 server behind a proxy that lets a tenth of the requests fail; gives the proxy's log."""
    port, upstream, log = free_ports(1), os.environ["AWS_ENDPOINT_URL"].rsplit(":", 1)[1], tmp_path / "requests.log"
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, Path(__file__).with_name("faulty_proxy.py"), str(port), upstream, "0.1", log]
    proxy = subprocess.Popen(command)
    try:
        wait_until_it_answers(endpoint, proxy, log)
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield log
    finally:
        proxy.kill()
        proxy.wait()
