"""The benchmark compares things that give the same frames, names what failed, and writes what it says it writes."""

import itertools
import json
import logging
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from jobs import benchmark
from jobs.bench import baseline, sections
from jobs.bench.capacity import GROUP, Rates, Work, describe_cluster, describe_manifest, estimated_lengths
from jobs.bench.counting import count
from jobs.bench.engines import Tried
from jobs.bench.job import BenchmarkJob, Outcome
from jobs.bench.sections import PLANNED, SECTIONS
from jobs.bench.subject import Sizes, Subject
from jobs.bench.worker import Here
from models import FLOAT
from pipeline.manifest.clip import Clip
from tests.running import Ended, process_as_it_was
from tests.tiny import CONFIG

SMALL = Sizes(product=64, copied=1, frame_batches=1, times=1, speech_seconds=1, written=1, quality_seconds=1)


def bench(capsys, *arguments, runner=None):
    """Run the benchmark in this process, with little work."""
    here = runner or (lambda job: Here(job, lambda job: Subject(job, SMALL)))
    with process_as_it_was():
        try:
            code = benchmark.main([str(argument) for argument in arguments], here)
        except SystemExit as end:
            code = end.code
    said = capsys.readouterr()
    return Ended(code, said.out, said.err)


@pytest.fixture(scope="module")
def measured(tiny_model, tmp_path_factory):
    """A run of every section over the tiny model: how it ended, its JSON file and its table."""
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch, process_as_it_was():
        patch.setenv("FLOATCAST_CACHE", str(folder / "cache"))
        code = benchmark.main(
            [
                *(f"model={tiny_model.path}", "mode=eager", "nfe=2", "clips=0", "device=cpu", "threads=1"),
                *(f"json={folder / 'figures.json'}", f"markdown={folder / 'table.md'}"),
            ],
            lambda job: Here(job, lambda job: Subject(job, SMALL)),
        )
    return code, folder / "figures.json", (folder / "table.md").read_text()


@pytest.mark.slow
def test_every_section_is_measured_and_written(measured):
    code, file, _ = measured
    figures = json.loads(file.read_text())
    assert {name: found["reason"] for name, found in figures["sections"].items() if found["status"] != "done"} == {}
    assert code == 0
    assert figures["format"] == "floatcast-benchmark/1"
    assert list(figures) == ["format", "settings", "stages", "shares", "limit", "sections"]
    assert list(figures["sections"]) == [section.name for section in SECTIONS]
    assert list(figures["stages"]) == ["portrait", "sampling", "decode", "encode", "end_to_end", "features"]
    for stage in figures["stages"].values():
        assert stage["ratio"] == pytest.approx(stage["engine"] / stage["baseline"])
    for name in ("sampling", "decode", "end_to_end"):
        assert figures["stages"][name]["psnr"] > 50  # all in float32
    assert figures["stages"]["features"]["psnr"] > 20
    assert figures["shares"]["decode"]["share"] > 0
    found = figures["sections"]
    assert found["features"]["figures"]["load_seconds_a_clip"] > 0
    assert found["encode"]["figures"]["opens"]["h264_nvenc"]  # no GPU here: it says why
    assert found["parity"]["figures"]["decoder_psnr"] > 50
    assert found["rendering"]["figures"]["peak_memory_gb"] > 0


@pytest.mark.slow
def test_the_table_names_the_stages_the_limit_and_the_load(measured):
    _, file, table = measured
    rows = dict(re.findall(r"^\| ([a-z ]+) \| (.*) \|$", table, re.MULTILINE))
    assert list(rows) == ["stage", "portrait", "sampling", "decode", "encode", "end to end", "features"]
    assert rows["decode"].count("frames/s") == 2
    assert "dB" in rows["decode"] or "exact" in rows["decode"]
    assert json.loads(file.read_text())["limit"][1:] in table
    assert re.search(r"^Load seconds a clip: \d", table, re.MULTILINE)


@pytest.mark.slow
def test_a_plan_uses_the_rates_of_an_earlier_run(measured, capsys):
    _, file, _ = measured
    done = bench(capsys, "--plan", f"rates={file}", "cpus=8", runner=lambda job: pytest.fail("nothing is measured"))
    assert done.returncode == 0, done.stderr
    assert "6 clips with about" in done.stdout
    assert "the bottleneck" in done.stdout


def test_a_section_that_fails_is_recorded_and_the_others_go_on(tiny_model, capsys, tmp_path, monkeypatch):
    def broken(subject):
        raise OSError(5, "the disk is gone")

    monkeypatch.setattr("jobs.bench.machine.measure_ceilings", broken)
    file = tmp_path / "figures.json"
    done = bench(capsys, f"model={tiny_model.path}", "device=cpu", "sections=[ceilings,machine,encode]", f"json={file}")
    assert done.returncode == 1
    found = json.loads(file.read_text())["sections"]
    assert {name: section["status"] for name, section in found.items()} == {
        "machine": "done",
        "ceilings": "failed",
        "encode": "done",
    }
    assert "the disk is gone" in found["ceilings"]["reason"]
    assert "in broken" in "".join(found["ceilings"]["figures"]["traceback"])
    assert "Section ceilings failed: [Errno 5] the disk is gone" in done.stdout


class Fake:
    """Takes a fixed time for each section on a clock of its own, and measures nothing."""

    def __init__(self, job, spends, now):
        self.spends, self.now, self.asked = spends, now, []

    def run(self, section, seconds, failed):
        self.asked.append((section.name, seconds, list(failed)))
        self.now[0] += self.spends
        return Outcome("failed" if section.name == "machine" else "done", reason="no" * (section.name == "machine"))

    def close(self):
        self.asked.append("closed")


def test_the_time_is_shared_and_what_is_skipped_is_named(capsys, monkeypatch):
    now = [0.0]
    fake = Fake(None, 50.0, now)
    monkeypatch.setattr(benchmark, "Clock", lambda seconds: sections.Clock(seconds, lambda: now[0]))
    done = bench(
        capsys, "device=cpu", "minutes=2", "sections=[machine,ceilings,baseline,encode]", runner=lambda job: fake
    )
    assert fake.asked == [
        ("machine", 60, []),
        ("ceilings", 55, ["machine"]),  # of 70 s that are left, without the least that the next ones need
        ("baseline", 15, ["machine"]),
        "closed",
    ]
    assert done.returncode == 1
    assert (
        "[1/4] machine: device, driver and versions, at most 60 s; all sections end in 0:02:00 at the latest"
        in done.stdout
    )
    assert "[4/4] encode: skipped: 0 s are left, and it needs 5 s" in done.stdout


@pytest.mark.parametrize(("minutes", "times"), [(8, [60, 60, 210, 75, 75]), (4, [18, 18, 111, 46, 46])])
def test_the_sections_of_a_plan_leave_time_to_one_another(minutes, times, capsys, monkeypatch):
    now = [0.0]
    fake = Fake(None, 0.0, now)
    run = fake.run

    def slow(section, seconds, failed):
        now[0] += seconds  # each takes all the time that it may
        return run(section, seconds, failed)

    monkeypatch.setattr(fake, "run", slow)
    monkeypatch.setattr(benchmark, "Clock", lambda seconds: sections.Clock(seconds, lambda: now[0]))
    bench(capsys, "--plan", "device=cpu", f"minutes={minutes}", runner=lambda job: fake)
    given = {name: round(seconds) for name, seconds, _ in fake.asked[:-1]}
    assert list(given.values()) == times
    assert now[0] == pytest.approx(60 * minutes)


def test_a_plan_of_clips_that_the_storage_is_slow_to_tell_takes_a_sample(tmp_path):
    clips = []
    for number in range(2 * GROUP + 1):
        file = tmp_path / f"{number}.wav"
        file.write_bytes(bytes(6400 if number < GROUP else 64_000))
        clips.append(Clip(number, str(number), "", str(file), None, 0, 10, 2.0, 1.0, 1.0, "auto"))
    whole, said, time = estimated_lengths(clips, pytest.fail), [], itertools.count(0, 3.0)
    assert estimated_lengths(clips, said.append, 5.0, lambda: next(time)) != whole
    assert said == [
        f"  only {2 * GROUP} of {2 * GROUP + 1} clips, in random order, could be asked for in 6 s: the others are "
        "taken to be as long on average; minutes= gives more time"
    ]
    said.clear()
    sample = estimated_lengths(clips, said.append, 1.0, lambda: next(time))
    assert said[0].startswith(f"  only {GROUP} of")
    assert sum(length == whole[number] for number, length in enumerate(sample)) == GROUP
    assert sum(sample) == pytest.approx(sum(whole), rel=0.1)  # not only the short ones at the start


def test_a_plan_measures_only_what_it_needs_and_says_how_far_it_is(capsys):
    fake = Fake(None, 0.0, [0.0])
    done = bench(capsys, "--plan", "device=cpu", runner=lambda job: fake)
    assert [asked[0] for asked in fake.asked[:-1]] == [s.name for s in SECTIONS if s.name in PLANNED]
    heads = re.findall(r"^\[(\d)/\d\] (\w+): .* at most", done.stdout, re.MULTILINE)
    assert [int(number) for number, _ in heads] == list(range(1, len(PLANNED) + 1))
    assert done.returncode == 2
    assert "there is no plan, because this was not measured: features, load seconds" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sections=[decode]"], "sections: there is no section 'decode'; choose from machine"),
        (["rates=old.json"], "rates: only --plan uses the rates"),
        (["--plan", "rates=old.json"], "rates: old.json could not be read: No such file"),
        (["--plan", f"rates={Path(__file__)}"], "was not written by this benchmark"),
        (["model=nowhere"], "model: .*nowhere"),
        (["device=cuda"], "device: PyTorch finds no GPU here"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments, message, capsys):
    if arguments == ["device=cuda"] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = bench(capsys, *arguments)
    assert done.returncode == 2
    assert re.search(message, done.stderr)


def test_a_gpu_gets_the_engine_of_a_render_worker_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    subject = Subject(BenchmarkJob(device="cuda"))
    settings = subject.settings
    assert (settings.device, settings.num_gpus, settings.mode, settings.frame_batch) == ("cuda", 1.0, "auto", 0)
    assert (subject.slots, subject.frame_batch) == (8, 32)
    assert subject.job.model == "full"  # made of the bundled weights (test_spread.py)


def test_what_the_tuner_says_of_each_engine_is_kept_and_reported_at_once(capsys):
    reported = []
    subject = Subject(BenchmarkJob(device="cpu"))
    subject.report = reported.append
    log = logging.getLogger("pipeline.render.tuning.search")
    with Tried(subject) as tried:
        log.info("%s: %.3g ms a frame, %.1f dB", "decoder eager x4", 12.345, 60.0)
        log.info("%s is refused: %s", "field eager", "it is wrong")
    log.info("of another run")
    assert tried.lines == ["decoder eager x4: 12.3 ms a frame, 60.0 dB", "field eager is refused: it is wrong"]
    assert reported == [{"tried": tried.lines[:1]}, {"tried": tried.lines}]
    assert "field eager is refused" in capsys.readouterr().out


def test_the_documented_commands_are_ones_that_the_job_takes(capsys):
    """Those of its help and of the guides: each is parsed, and none is refused."""
    pages = [Path(benchmark.__file__).parents[1] / page for page in ("jobs/README.md", "models/README.md")]
    text = benchmark.USAGE + "".join(page.read_text() for page in pages)
    commands = re.findall(r"(?:python -m jobs\.|floatcast )benchmark((?: [-\w.]+=\S+| --\w+)*)", text)
    assert len(commands) >= 6
    for command in commands:
        arguments = command.replace("`", "").split()
        benchmark.parse(BenchmarkJob, "", arguments, ["--plan"])


@torch.no_grad()
@pytest.mark.slow
def test_the_baseline_gives_the_model_s_own_portraits_and_frames():
    torch.manual_seed(0)
    model = FLOAT(CONFIG).eval()
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    expected, got = model.encode_portrait(image), baseline.encode(model, image)
    torch.testing.assert_close(got.identity, expected.identity, atol=1e-4, rtol=1e-4)
    for ours, theirs in zip(got.features, expected.features, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    motion = expected.motion + 0.3 * torch.randn(3, CONFIG.latent_dim)
    frames = model.decode(expected, motion)
    torch.testing.assert_close(baseline.decode(model, expected, motion), frames, atol=1e-4, rtol=1e-4)


RATES = Rates(workers_cpus=2, on_gpu=False, features=3.0, load_seconds=0.5, sampling=20.0, end_to_end=4.0, nfe=10)


def test_the_hours_of_a_manifest_are_its_work_over_the_rates(tmp_path):
    text = describe_manifest(work_of(tmp_path, RATES), RATES)  # an hour of sound
    assert "100 clips with about 1.00 hours" in text
    assert "features  0.69 CPU-hours" in text  # (3600 / 3 + 100 * 0.5) s * 2 CPUs
    assert "render    12.50 CPU-hours" in text  # 90,000 frames / 4 * 2 CPUs


def test_twice_the_evaluations_cost_the_sampling_again(tmp_path):
    text = describe_manifest(work_of(tmp_path, RATES, nfe=20), RATES)
    assert "render    15.00 CPU-hours" in text  # + 90,000 / 20 * 2


def test_a_cluster_waits_for_its_slower_stage(tmp_path):
    def said(rates, gpus=0):
        return describe_cluster(work_of(tmp_path, rates), rates, cpus=64, gpus=gpus)

    assert "the render stage is the bottleneck: it takes 0.78 hours" in said(RATES)
    assert "the features stage is the bottleneck" in said(replace(RATES, features=0.05))
    assert "no GPU was measured" in said(RATES, gpus=8)
    assert "8 render actors (1 GPU each" in said(replace(RATES, on_gpu=True, end_to_end=1000.0), gpus=8)


def test_work_is_counted_as_it_can_be_by_hand():
    x, y = torch.zeros(8, 16), torch.zeros(16, 32)
    work = count(lambda: x @ y)
    assert work.gflop == pytest.approx(2 * 8 * 16 * 32 / 1e9)
    assert work.gigabytes == pytest.approx(4 * (8 * 16 + 16 * 32 + 8 * 32) / 1e9)
    assert count(lambda: x.T).gigabytes == 0  # a view moves nothing


def work_of(folder, rates, nfe=10):
    file = folder / "sound.wav"
    file.write_bytes(bytes(64_000 * 36))  # what the estimate takes for 36 s of WAV
    clips = [Clip(1, "a", "", str(file), None, 0, nfe, 2.0, 1.0, 1.0, "auto")] * 100
    return Work.of(clips, estimated_lengths(clips, pytest.fail), rates, Fraction(25))
