"""`python -m jobs.research.pocket`: the recipe names real keys of real commands, and goes on where it ended."""

import importlib
import json

import pytest

from jobs.cli.config import parse
from jobs.research.pocket import run_steps
from pipeline.research.recipe import Recipe, steps
from tests.running import run_job

SCHEMAS = {
    "jobs.research.corpus": "CorpusJob",
    "jobs.prepare": "PrepareJob",
    "jobs.research.encoders": "Encoders",
    "jobs.train": "Train",
    "jobs.research.study": "StudyJob",
}


@pytest.mark.parametrize("size", [64, 128, 256])
def test_every_command_of_the_recipe_is_accepted_by_its_job(size):
    planned = steps(Recipe(output="/out", size=size, variants=True))
    assert {arguments[0] for _, arguments in planned} == set(SCHEMAS)
    for _, (module, *arguments) in planned:
        schema = getattr(importlib.import_module(module), SCHEMAS[module])
        job, _ = parse(schema, "usage", arguments)  # ends the process for a key or value that is not known
        assert job.output.startswith("/out/")
    sides = [int(name.rpartition("-")[2]) for name, _ in planned if name.startswith("autoencoder")]
    assert sides == [side for side in (64, 128, 256) if side <= size]


def test_each_step_begins_with_what_the_one_before_delivers():
    planned = dict(steps(Recipe(output="/out", size=128)))
    assert "model=/out/autoencoder-64/model" in planned["autoencoder-128"]
    assert "size=128" in planned["autoencoder-128"]
    for name in ("latents", "motion"):
        assert "model=/out/autoencoder-128/model" in planned[name]
    assert "model=/out/motion/model" in planned["study"]
    assert "reconstruction.unit_motion=true" in planned["autoencoder-64"]
    assert "reconstruction.decoder_only=true" in planned["autoencoder-128"]
    assert "optimiser.steps=1000" in dict(steps(Recipe(output="/out", effort=0.1)))["autoencoder-64"]


def test_the_bundled_auto_encoder_can_go_on_with_new_speech_encoders():
    planned = dict(steps(Recipe(output="/out", begin="pocket")))["autoencoder-64"]
    assert "model=pocket" in planned
    assert "content_encoder=/out/encoders/content_encoder" in planned
    assert not any(one.startswith(("preset=", "size=")) for one in planned)


def test_variants_differ_from_the_first_one_in_one_thing():
    planned = dict(steps(Recipe(output="/out", variants=True)))
    usual = set(planned["adaln"])
    changed = {name: set(planned[name]) - usual for name in ("cross-attention", "epsilon", "x0", "no-emotion", "pose")}
    for name, found in changed.items():
        assert found > {f"name={name}", f"output=/out/{name}"}
        assert len(found) == 3
    without, with_them = set(planned["without-components"]), set(planned["with-components"])
    assert {one for one in with_them - without if "components" not in one} == {"reconstruction.component=1"}
    read = next(one for one in planned["variants"] if one.startswith("models="))
    assert all(f"/out/{name}/model" in read for name in [*changed, "adaln", "without-components"])


def test_nobody_who_is_measured_teaches_the_auto_encoder():
    planned = dict(steps(Recipe(output="/out", seed=7)))
    assert "corpus.seed=7" in planned["corpus"]
    assert "corpus.seed=8" in planned["faces"]
    assert "corpus.seed=9" in planned["speech"]
    assert "data=/out/pairs" in planned["autoencoder-64"]
    assert "data=/out/data" in planned["study"]


def test_steps_that_are_done_are_not_repeated_and_one_that_fails_ends_the_run(tmp_path, capfd):
    output = str(tmp_path)
    # Programs that start at once: what a job makes of its arguments is tested above.
    helps = [("one", ["json.tool", "--help"]), ("two", ["tokenize", "--help"])]
    assert run_steps(output, [*helps, ("bad", ["json.tool", "--nonsense"]), ("never", ["zipfile", "--help"])]) == 2
    said = capfd.readouterr()
    assert "[3/4] bad: python -m json.tool --nonsense" in said.out
    assert "bad ended with exit code 2" in said.err
    times = json.loads((tmp_path / "pocket.json").read_text())
    assert [times[name]["done"] for name in ("one", "two", "bad")] == [True, True, False]
    assert run_steps(output, helps) == 0
    assert "[1/2] one: done before" in capfd.readouterr().out
    changed = [("one", ["zipfile", "--help"]), helps[1]]
    assert run_steps(output, changed) == 0
    assert "[1/2] one: python -m zipfile --help" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("keys", "said"), [([], "output: give a local folder"), (["output=x", "size=96"], "size: 96 is not one of")]
)
def test_what_cannot_be_planned_is_refused(keys, said):
    done = run_job("research.pocket", *keys)
    assert done.returncode == 2
    assert said in done.stderr


def test_the_plan_can_be_printed(tmp_path):
    done = run_job("research.pocket", f"output={tmp_path}", "--plan")
    assert done.returncode == 0
    assert done.stdout.count("python -m jobs.") == 10
    assert list(tmp_path.iterdir()) == []
