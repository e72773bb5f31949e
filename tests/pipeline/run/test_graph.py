"""The graph on real Ray processes: it gives what the same stages give in one process, and loses nothing."""

import contextlib
import json
import os
import re
import shutil
import time
import urllib.request
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

from pipeline.cluster import nodes
from pipeline.cluster.metrics import (
    COUNTERS,
    GAUGES,
    LABEL_CHARACTERS,
    RUN_COUNTERS,
    RUN_GAUGES,
    RunMetrics,
    output_label,
)
from pipeline.cluster.pools import gpus_per_worker, least_unit_seconds, plan_pools, starving
from pipeline.cluster.ray_data import RayExecutor
from pipeline.cluster.serial import SerialExecutor
from pipeline.cluster.work_units import Unit, Units
from pipeline.common.errors import ClusterError
from pipeline.common.limits import Limits
from pipeline.common.stage import Pool, Resources, Stage
from pipeline.common.watchdog import Watchdog
from pipeline.face.full_frame import mask
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.emotion_spans import EmotionSpan
from pipeline.manifest.reader import read_manifest
from pipeline.media.slot import Slot
from pipeline.qc.settings import QcSettings
from pipeline.render.feature_stage import FeatureStage
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.run.graph import render_graph
from tests import media

DEMO = Path(__file__).parents[3] / "jobs" / "demo" / "manifest.jsonl"


FILE = ("uri", "sha256", "bytes", "committed")
RENDER_COUNTERS = [name for name in COUNTERS if name != "floatcast_retries"]  # nothing is tried again
NO_QC = QcSettings(enabled=False)
VIDEO = media.lossless()  # what is decoded is what the engine made


def graph(pools, model, output):
    limits = Limits(allowed_schemes=["file", "gate"])
    return render_graph(pools, model=str(model.path), ledger=Ledger(str(output), "run"), limits=limits, video=VIDEO)


def by_executor(executor, model, output, units, qc=NO_QC, **settings):
    """Rows of units, as they come."""
    pools = executor.pools(FeatureSettings(), EngineSettings(device="cpu", **settings), qc, minutes=0)
    return executor.run(units, graph(pools, model, output))


@dataclass
class Demo:
    """The demo and a clip without sound, as units; rows by Ray, and what the metrics of its node were meanwhile."""

    units: list[Unit]
    rows: list[dict]
    metrics: str
    output: str


@pytest.fixture(scope="module")
def demo(local_ray, tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    clips = list(read_manifest(str(DEMO)).clips)
    clips.insert(2, replace(clips[0], clip_id="missing", audio="/nowhere/no.wav"))
    clips[4] = replace(clips[4], frame="full", framing=VIDEO.framing, slot=Slot(30, Fraction(25), "trim"))
    clips[1] = replace(clips[1], spans=(EmotionSpan(0.5, 1.5, {"angry": 1.0}, 2.0),))
    shutil.copy(clips[-1].audio, folder / "last.wav")
    clips[-1] = replace(clips[-1], audio=f"gate://{folder}/last.wav")
    units = list(Units(clips, [1.0] * 7, 2.0))
    rows, metrics = [], ""
    for row in by_executor(RayExecutor(), tiny_model, folder, units, QcSettings(num_cpus=0)):
        rows.append(row)
        if len(rows) == 6:  # and the workers live, as the last clip waits
            wanted = ('error_code="input_not_found"', *(f"ray_{name}" for name in (*RENDER_COUNTERS, *GAUGES)))
            metrics = scrape(folder, *wanted)
            (folder / "last.wav.open").touch()
    return Demo(units, rows, metrics, str(folder))


def scrape(output, *wanted):
    """Text of this node's metrics, once all that is wanted is in those of this output."""
    port = ray.nodes()[0]["MetricsExportPort"]
    label, text = f'output="{output_label(str(output))}"', ""
    while not all(any(name in line and label in line for line in text.splitlines()) for name in wanted):
        time.sleep(0.5)
        with contextlib.suppress(OSError):
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    return text


@pytest.fixture(scope="module")
def serial(demo, tiny_model, tmp_path_factory):
    """Rows of the same units by this process."""
    # Ray counts a GPU for its render worker, which computes on the CPU as this process does.
    folder, qc = tmp_path_factory.mktemp("serial"), QcSettings(num_cpus=0)
    return list(by_executor(SerialExecutor(), tiny_model, folder, demo.units, qc, num_gpus=1))


@pytest.mark.slow
def test_ray_and_this_process_deliver_the_same_rows_and_frames_of_the_demo(demo, serial):
    def comparable(row):
        return {
            name: value
            for name, value in row.items()
            if not name.endswith("_seconds") and name not in FILE and not name.startswith("qc_")
        }

    by_id = {row["clip_id"]: row for row in demo.rows}
    assert len(demo.rows) == len(serial) == len(by_id) == 7
    for row in serial:
        other = by_id[row["clip_id"]]
        assert comparable(other) == comparable(row)
        if row["status"] == "done":
            difference = media.planes(row["uri"]).astype(int) - media.planes(other["uri"])
            assert np.abs(difference).max() <= 1  # of 255: rounding; another seed or emotion is 5 and more
            metrics = {name for name, value in row.items() if name.startswith("qc_") and value is not None}
            assert metrics == {name for name, value in other.items() if name.startswith("qc_") and value is not None}
            assert {"qc_flicker", "qc_version"} <= metrics
    assert by_id["missing"]["error_code"] == "input_not_found"
    assert [row["emotion_fade"] for row in serial] == [
        0.3 if row["clip_id"] == "en-2-happy" else None for row in serial
    ]


@pytest.mark.slow
def test_full_frames_on_ray_are_those_of_this_process(demo, serial):
    by_ray, here = (next(row for row in rows if row.get("frame") == "full") for rows in (demo.rows, serial))
    assert (by_ray["status"], here["status"]) == ("done", "done")
    with Image.open(here["image"]) as picture:
        assert (by_ray["width"], by_ray["height"]) == (here["width"], here["height"]) == picture.size
    assert by_ray["square"] == here["square"]
    one, other = (media.planes(row["uri"]).astype(int) for row in (by_ray, here))
    assert len(one) == len(other) == 30
    assert np.abs(one - other).max() <= 1
    x, y = np.arange(here["width"]) + 0.5, np.arange(here["height"]) + 0.5
    weight = mask(x, y[:, None], tuple(here["square"]))
    luma = one[:, : here["height"]]
    assert (luma[:, weight == 0] == luma[0, weight == 0]).all()  # the picture
    assert (luma[:, weight == 1] != luma[0, weight == 1]).any()  # what moves


@pytest.mark.slow
def test_workers_tell_what_they_do_on_rays_metrics_endpoint(demo):
    every = [line for line in demo.metrics.splitlines() if line.startswith("ray_floatcast_")]
    assert all('run="' in line and 'output="' in line for line in every)  # those of other tests too
    ours = [line for line in every if f'output="{output_label(demo.output)}"' in line]
    assert all('run="run"' in line for line in ours)
    for name in COUNTERS:
        assert any(line.startswith(f"ray_{name}_total{{") for line in ours) == (name in RENDER_COUNTERS), name
    for name in GAUGES:
        assert any(line.startswith(f"ray_{name}{{") for line in ours), name
    ended = [line for line in ours if line.startswith("ray_floatcast_clips_total{")]
    assert any('status="rejected"' in line and 'error_code="input_not_found"' in line for line in ended)


@pytest.mark.slow
def test_the_driver_tells_what_is_left_and_the_verdicts_of_its_own_run(local_ray):
    state = {"qc": {"pass": 5, "review": 1, "fail": 0}, "planned": 9, "done": 6, "seconds_left": None}
    state |= {"failed": 0, "rejected": 1, "quarantined": 0}
    with RunMetrics(Ledger("s3://user:password@bucket/out", "night"), lambda: state):
        state = state | {"qc": {"pass": 6, "review": 1, "fail": 1}, "done": 8, "seconds_left": 90.5}
        text = scrape(
            "s3://user:password@bucket/out",
            *("ray_floatcast_verdicts_total{", "ray_floatcast_clips_left{", "ray_floatcast_seconds_left{"),
            *('verdict="pass"', 'verdict="fail"'),
        )
    values = {}
    for line in text.splitlines():
        if 'run="night"' in line and not line.startswith("#"):
            name, labels, value = re.match(r"(\w+)\{(.*)\} (\S+)", line).groups()
            assert 'output="s3://***bucket/out"' in labels
            verdict = re.search(r'verdict="(\w+)"', labels)
            values[name, verdict and verdict[1]] = float(value)
    assert values == {
        ("ray_floatcast_verdicts_total", "pass"): 1.0,  # the other five are of earlier runs
        ("ray_floatcast_verdicts_total", "fail"): 1.0,
        ("ray_floatcast_clips_left", None): 0.0,
        ("ray_floatcast_seconds_left", None): 90.5,
    }


def test_the_label_of_an_output_is_short_and_tells_no_password():
    assert output_label("s3://bucket/out") == "s3://bucket/out"
    assert "secret" not in output_label("s3://me:secret@bucket/out")
    long = output_label(f"s3://bucket/{'x' * 200}/night")
    assert len(long) == LABEL_CHARACTERS
    assert long.startswith("...")
    assert long.endswith("/night")


def test_the_dashboard_shows_every_metric_and_no_other():
    dashboard = json.loads((DEMO.parents[1] / "deploy" / "grafana.json").read_text())
    shown = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"ray_(floatcast_\w+)", target["expr"])
    }
    assert shown == {f"{name}_total" for name in COUNTERS | RUN_COUNTERS} | set(GAUGES | RUN_GAUGES)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


class Reads(FeatureStage):
    """Its clips need no encoders, which take seconds to load; one ends the process that looks at it."""

    def setup(self):
        self._watchdog = Watchdog(self._clip_minutes)

    def _features(self, clip):
        if clip.clip_id == "poison":
            os._exit(1)
        return {"clip_id": clip.clip_id, "status": "done"}


@pytest.mark.slow
def test_a_clip_that_its_workers_die_with_is_quarantined_and_its_unit_continues(local_ray, tiny_model, tmp_path):
    clips = read_manifest(str(DEMO)).clips[:3]
    poison = replace(clips[1], clip_id="poison", fingerprint="0123456789ab")
    stage = Reads(str(tiny_model.path), FeatureSettings(), Limits(), VIDEO, Ledger(str(tmp_path), "run"))
    rows = list(RayExecutor().run([Unit([clips[0], poison, clips[2]])], [Pool(stage)]))
    assert {row["clip_id"]: (row["status"], row.get("error_code")) for row in rows} == {
        clips[0].clip_id: ("done", None),
        "poison": ("quarantined", "worker_died"),
        clips[2].clip_id: ("done", None),
    }
    assert Ledger(str(tmp_path)).quarantined() == {("poison", poison.fingerprint)}


@pytest.mark.parametrize(
    ("resources", "features", "render", "expected"),
    [
        ({"CPU": 2}, {}, {}, (1, 1, 0)),
        ({"CPU": 16}, {}, {}, (4, 4, 0)),
        ({"CPU": 16, "GPU": 2}, {}, {}, (4, 2, 1)),
        ({"CPU": 16, "GPU": 2}, {}, {"num_gpus": 0.5}, (4, 4, 0.5)),
        ({"CPU": 16, "GPU": 2}, {"workers": 3}, {"workers": 1}, (3, 1, 1)),
        ({"CPU": 16, "GPU": 2}, {}, {"num_gpus": 0}, (4, 4, 0)),
        ({"CPU": 16, "GPU": 2}, {"device": "gpu"}, {}, (2, 1, 1)),
        ({"CPU": 64, "GPU": 8}, {"device": "gpu"}, {}, (8, 6, 1)),
        ({"CPU": 64, "GPU": 8}, {"device": "gpu", "workers": 5}, {}, (5, 6, 1)),
        ({"CPU": 64, "GPU": 4}, {"device": "gpu", "workers": 3, "num_gpus": 0.6}, {}, (3, 1, 1)),
        ({"CPU": 16, "GPU": 1}, {"device": "gpu", "workers": 2}, {"num_gpus": 0.25}, (2, 2, 0.25)),
        ({"CPU": 16, "GPU": 1}, {"device": "gpu", "workers": 3, "num_gpus": 0.1}, {"num_gpus": 0.7}, (3, 1, 0.7)),
        ({"CPU": 16, "GPU": 2}, {"num_gpus": 1}, {}, (4, 2, 1)),
    ],
)
def test_pools_are_chosen_from_what_the_cluster_has(resources, features, render, expected):
    pools = plan_pools(FeatureSettings(**features), EngineSettings(**render), NO_QC, resources)
    assert (pools.features.workers, pools.render.workers, pools.render.num_gpus) == expected


@pytest.mark.parametrize(
    ("resources", "features", "render", "message"),
    [
        ({"CPU": 1}, {}, {}, "has 1 CPUs, but the job needs 2"),
        ({"CPU": 8}, {}, {"num_gpus": 1}, "has 0 GPUs, but the job needs 1"),
        ({"CPU": 8, "GPU": 1}, {"workers": 8}, {}, "has 8 CPUs, but the job needs 9"),
        ({"CPU": 8, "GPU": 1}, {}, {"workers": 2}, "has 1 GPUs, but the job needs 2"),
        ({"CPU": 8}, {"device": "gpu"}, {}, r"has 0 GPUs, but the job needs 0.25.*features.num_gpus \(features.device"),
        ({"CPU": 8, "GPU": 1}, {"device": "gpu"}, {}, "has 1 GPUs, but the job needs 2.*render.num_gpus"),
        ({"CPU": 8, "GPU": 2}, {"device": "gpu", "workers": 5}, {"workers": 1}, "has 2 GPUs, but the job needs 3"),
    ],
)
def test_pools_that_do_not_fit_are_refused_with_what_is_missing(resources, features, render, message):
    with pytest.raises(ClusterError, match=message):
        plan_pools(FeatureSettings(**features), EngineSettings(**render), NO_QC, resources)


@pytest.mark.parametrize(
    ("settings", "startable", "small", "expected"),
    [
        ({}, False, True, 0),
        ({}, True, True, 1),  # no node with a GPU is up yet: the job asks for one and does not crawl on CPUs
        ({"device": "cpu"}, True, False, 0),
        ({"device": "cpu"}, False, False, 0),
        ({"num_gpus": 0}, False, False, 0),
        ({"device": "cuda"}, False, False, 1),
    ],
)
def test_a_cluster_without_gpus_renders_on_cpus_only_where_that_is_meant(settings, startable, small, expected):
    render = EngineSettings(**settings)
    assert gpus_per_worker(render, 0, startable=startable, small=small) == expected


@pytest.mark.parametrize(("settings", "expected"), [({}, 2), ({"units_in_flight": 3}, 3), ({"num_gpus": 0}, 1)])
def test_a_worker_on_a_gpu_holds_two_units(settings, expected):
    pools = plan_pools(FeatureSettings(), EngineSettings(**settings), NO_QC, {"CPU": 64, "GPU": 2})
    assert pools.render.units_in_flight == expected


def test_units_are_longer_for_hundreds_of_gpus_because_one_driver_hands_them_out():
    assert least_unit_seconds(EngineSettings(workers=4, num_gpus=1)) < 10
    assert least_unit_seconds(EngineSettings(workers=512, num_gpus=1)) == pytest.approx(683, abs=1)
    assert least_unit_seconds(EngineSettings(workers=64, num_gpus=0)) == 0


def test_features_that_cannot_feed_the_gpus_are_warned_of_with_the_keys_to_set():
    features, render = FeatureSettings(workers=8, num_cpus=4), EngineSettings(workers=4, num_cpus=7)
    cluster = {"CPU": 640, "GPU": 16}
    few = plan_pools(features, render, NO_QC, cluster)
    assert "32 CPUs of feature actors may be too few for 4 GPUs" in starving(few, heard=True)
    assert "features.workers=25" in starving(few, heard=True)
    assert starving(few, heard=False) == ""
    assert starving(plan_pools(FeatureSettings(workers=25, num_cpus=4), render, NO_QC, cluster), heard=True) == ""
    on_gpus = plan_pools(FeatureSettings(workers=2, device="gpu"), render, NO_QC, cluster)
    assert starving(on_gpus, heard=True) == ""
    on_cpus = plan_pools(FeatureSettings(workers=1), EngineSettings(num_gpus=0), NO_QC, cluster)
    assert starving(on_cpus, heard=True) == ""


def test_a_large_model_is_refused_without_gpus_with_the_key_that_allows_it():
    with pytest.raises(ClusterError, match=r"has no GPU, .* 256 px .* set render.device=cpu"):
        plan_pools(FeatureSettings(), EngineSettings(), NO_QC, {"CPU": 64}, small=False)
    pools = plan_pools(FeatureSettings(), EngineSettings(), NO_QC, {"CPU": 64, "GPU": 2}, small=False)
    assert (pools.render.workers, pools.render.num_gpus) == (2, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("available_node_types: {gpu: {resources: {CPU: 8, GPU: 1}, max_workers: 4}}", True),
        ("available_node_types: {gpu: {resources: {CPU: 8, GPU: 1}, max_workers: 0}}", False),
        ("available_node_types: {cpu: {resources: {CPU: 8}}}", False),
        ("available_node_types: [1]", False),
        ("{broken", False),
        (None, False),
    ],
)
@pytest.mark.slow
def test_the_node_types_of_ray_up_say_whether_gpus_can_be_started(text, expected, tmp_path, monkeypatch, local_ray):
    path = tmp_path / "ray_bootstrap_config.yaml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(nodes, "BOOTSTRAP_CONFIG", path)
    assert nodes.can_start_gpus() == expected


@pytest.mark.parametrize(
    ("resources", "qc", "expected"),
    [
        ({"CPU": 2}, {}, (1, 0)),  # none left: it shares
        ({"CPU": 3}, {}, (1, 1)),
        ({"CPU": 16}, {}, (4, 1)),
        ({"CPU": 64}, {"workers": 20}, (20, 1)),
        ({"CPU": 16}, {"workers": 2, "num_cpus": 4}, (2, 4)),
        ({"CPU": 2}, {"workers": 3, "num_cpus": 0}, (3, 0)),
    ],
)
def test_quality_control_takes_the_cpus_that_are_left_and_shares_where_there_are_none(resources, qc, expected):
    pools = plan_pools(FeatureSettings(), EngineSettings(), QcSettings(**qc), resources)
    assert (pools.qc.workers, pools.qc.num_cpus) == expected
    assert "quality control" in pools.describe()


@pytest.mark.parametrize(("workers", "expected"), [(8, (4, 1)), (7, (4, 1)), (6, (8, 1))])
def test_quality_control_leaves_the_cpus_of_gpu_nodes_to_rendering_if_features_leave_any(workers, expected):
    features = FeatureSettings(workers=workers, num_cpus=4)
    render = EngineSettings(workers=4, num_cpus=7)
    pools = plan_pools(features, render, QcSettings(), {"CPU": 64, "GPU": 4}, cpus_of_gpu_nodes=32)
    assert (pools.qc.workers, pools.qc.num_cpus) == expected


def test_quality_control_that_is_asked_for_and_does_not_fit_is_refused():
    with pytest.raises(ClusterError, match=r"has 16 CPUs, but the job needs 28.* 20 quality control .*qc.workers"):
        plan_pools(FeatureSettings(), EngineSettings(), QcSettings(workers=20), {"CPU": 16})


def test_feature_actors_take_a_share_of_a_gpu_only_where_they_compute_on_it():
    cluster = {"CPU": 8, "GPU": 4}
    on_gpu = plan_pools(FeatureSettings(device="gpu", num_gpus=0.5), EngineSettings(), NO_QC, cluster)
    assert on_gpu.features.num_gpus == 0.5
    assert "1 CPU, 0.5 GPU each" in on_gpu.describe()
    on_cpu = plan_pools(FeatureSettings(num_gpus=0.5), EngineSettings(), NO_QC, cluster)
    assert on_cpu.features.num_gpus == 0


class Sees(Stage):
    """Rows of what a worker sees of the GPUs."""

    name = "sees"

    def __init__(self, gpus):
        self.resources = Resources(0.5, gpus)

    def process(self, items):
        return [os.environ.get("CUDA_VISIBLE_DEVICES") for _ in items]


@pytest.mark.slow
@pytest.mark.parametrize(("gpus", "visible"), [(0, {""}), (1, {"0", "1"})])
def test_a_worker_sees_the_gpus_that_it_was_given_and_no_other(local_ray, gpus, visible):
    (found,) = RayExecutor().run([Unit([1])], [Pool(Sees(gpus))])
    assert found in visible
