"""The engine of a worker: chosen once, cached, checked at every start, and never a wrong one."""

import math
from dataclasses import replace

import pytest

from models import load_float
from pipeline.render.settings import EngineSettings
from pipeline.render.tuning import candidates, choice_cache, choose, trial
from pipeline.render.tuning.choice_cache import Tuned
from pipeline.render.tuning.choose import Tuner
from pipeline.render.tuning.search import search as real_search
from pipeline.render.tuning.trial import Meter, Trial
from pipeline.render.variants import Choice, Variant

HOUR = 3600.0
LONG = 1e9


class Faster(Meter):
    """Whatever is timed later is faster: the last engine that is accepted wins."""

    runs = 0

    def time(self, work):
        work()
        Faster.runs += 1
        return 100.0 * 0.8**Faster.runs


@pytest.fixture(autouse=True)
def settled(tmp_path, monkeypatch):
    """A cache of its own, faked times, and a CPU that knows both half precisions and no compiler."""
    monkeypatch.setenv("FLOATCAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choose, "Meter", Faster)
    monkeypatch.setattr(trial, "TIMES", 1)
    monkeypatch.setattr(Faster, "runs", 0)
    monkeypatch.setattr(choose, "has_compiler", lambda: False)
    monkeypatch.setattr(candidates, "useful_precisions", lambda device, policy: () if policy == "float32" else HALVES)


HALVES = ("bfloat16", "float16")


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_float(tiny_model)


@pytest.fixture
def tune(tiny_model, model):
    def tune(audio_seconds=LONG, **settings):
        settings = EngineSettings(device="cpu", **settings)
        return Tuner(tiny_model, model, settings, slots=1, audio_seconds=audio_seconds).choose()

    return tune


@pytest.fixture
def searches(monkeypatch):
    """The searches that began."""
    begun, search = [], choose.search

    def counted(*arguments, **settings):
        begun.append(arguments)
        return search(*arguments, **settings)

    monkeypatch.setattr(choose, "search", counted)
    return begun


FLOAT16 = "decoder eager float16 x4, field eager float16"
FLOAT32 = "decoder eager float32 x4, field eager float32"


def test_the_best_engine_is_chosen_and_the_next_worker_takes_it_without_a_search(tune, searches):
    runner, tuned = tune()
    assert runner.engine == str(tuned.choice) == FLOAT16
    assert tuned.fps > 0
    assert 45 < tuned.psnr < 100
    assert tune()[1] == tuned
    assert len(searches) == 1


def test_a_job_that_is_short_is_not_tuned_and_asks_no_cache(tune, searches):
    tune()
    runner, tuned = tune(audio_seconds=60)
    assert (runner.engine, tuned.psnr, tuned.fps) == (FLOAT32, None, None)
    assert tune(audio_seconds=60, mode="tuned")[0].engine == FLOAT16
    assert len(searches) == 1


@pytest.mark.parametrize("mode", ["eager", "reference"])
def test_a_mode_that_is_given_is_used_in_float32(tune, searches, mode):
    runner, tuned = tune(mode=mode)
    assert runner.engine == f"decoder {mode} float32 x4, field {mode} float32"
    assert (tuned.psnr, searches) == (None, [])


def test_precision_float32_tries_nothing_that_is_reduced(tune):
    assert tune(precision="float32")[0].engine == FLOAT32
    assert tune()[0].engine == FLOAT16  # another policy has a choice of its own


def lying(monkeypatch, *precisions):
    """Decoders of these precisions give wrong pixels."""
    make = Tuner._make

    def worn(tuner, choice):
        runner = make(tuner, choice)
        if choice.decoder.precision in precisions:
            decode = runner._decode
            runner._decode = lambda *inputs: decode(*inputs) ^ 128
        return runner

    monkeypatch.setattr(Tuner, "_make", worn)


def test_what_gives_wrong_frames_is_never_used_however_fast_it_is(tune, monkeypatch):
    lying(monkeypatch, *HALVES)
    assert tune()[0].engine == "decoder eager float32 x4, field eager float16"


def test_if_even_the_fast_modules_give_wrong_frames_the_plain_ones_are_left(tune, searches, monkeypatch):
    lying(monkeypatch, *HALVES)
    make = Tuner._make

    def wrong(tuner, choice):
        runner = make(tuner, choice)
        if choice.decoder.mode == "eager":
            decode = runner._decode
            runner._decode = lambda *inputs: decode(*inputs) ^ 64
        return runner

    monkeypatch.setattr(Tuner, "_make", wrong)
    assert tune()[0].engine == "decoder reference float32 x4, field reference float32"
    assert searches == []


def test_another_code_finds_another_choice(tune, searches, monkeypatch):
    tune()
    monkeypatch.setattr(choice_cache, "code_hash", lambda: "of an edited decoder")
    tune()
    assert len(searches) == 2


def test_a_damaged_choice_is_made_again(tune, searches, tmp_path):
    tune()
    (file,) = tmp_path.rglob("choice.json")
    file.write_text(file.read_text().replace("float16", "float32"))
    assert tune()[0].engine == FLOAT16
    assert len(searches) == 2


def test_a_choice_that_has_become_wrong_is_noticed_at_the_start_and_replaced(tune, searches, monkeypatch):
    tune()
    lying(monkeypatch, "float16")
    assert tune()[0].decoder.precision != "float16"
    assert len(searches) == 2


def test_a_search_that_ended_early_goes_on_for_a_much_longer_job(tune, searches, monkeypatch):
    """And not for one that is as long."""
    now = [0.0]

    def search(attempt, start, seconds, steps, budget):
        searches.append(budget)
        now[0] = 0.0

        def timed(*arguments):
            now[0] += 1.0
            return attempt(*arguments)

        return real_search(timed, start, seconds, steps, budget, clock=lambda: now[0])

    monkeypatch.setattr(choose, "search", search)
    monkeypatch.setattr(choose, "SHARE", 5e-7)  # of 1e4 s of audio at 20 s a frame: three of its four candidates
    first = tune(audio_seconds=1e4)[1]
    assert not math.isinf(first.budget)
    assert tune(audio_seconds=1e4)[1] == first
    assert len(searches) == 1
    longer = tune(audio_seconds=1e8)[1]
    assert len(searches) == 2
    assert math.isinf(longer.budget)


def test_a_cache_that_others_can_write_is_not_used_and_nothing_is_tuned(tune, searches, tmp_path, caplog):
    (tmp_path / "cache" / "engines").mkdir(parents=True)
    (tmp_path / "cache" / "engines").chmod(0o777)
    assert tune()[0].engine == FLOAT32
    assert searches == []
    assert "the engine is not tuned: other users can write the cache folder" in caplog.text


def test_if_the_whole_is_refused_its_halves_are_tried_and_the_plain_model_is_left(tune, monkeypatch):
    judged = []

    class Refusing(choose.Workbench):
        def attempt(self, part, choice, *, timed=True):
            if part == "both":
                judged.append(str(choice))
                return Trial("its worst frame has 30.0 dB"), None
            return super().attempt(part, choice, timed=timed)

    monkeypatch.setattr(choose, "Workbench", Refusing)
    runner, tuned = tune()
    assert judged == [
        FLOAT16,
        "decoder eager float16 x4, field eager float32",
        "decoder eager float32 x4, field eager float16",
        FLOAT32,
    ]
    assert runner.engine == "decoder reference float32 x4, field reference float32"
    assert tuned.psnr == 100


def test_risky_candidates_are_tried_in_another_process(tune, monkeypatch):
    """Here its command is one that dies: the worker lives on with the safe engine."""
    monkeypatch.setattr(choose, "has_compiler", lambda: True)
    monkeypatch.setattr(candidates, "useful_precisions", lambda device, policy: ())
    monkeypatch.setattr(choose, "command_for", lambda task, reference, folder: ["/bin/false"])
    tried, attempt = [], choose.TrialProcess.attempt

    def seen(process, part, choice, *, limit):
        found = attempt(process, part, choice, limit=limit)
        tried.append((part, choice.decoder.mode, choice.field.mode, found.problem))
        return found

    monkeypatch.setattr(choose.TrialProcess, "attempt", seen)
    assert tune()[0].engine == FLOAT32
    ended = "before it was tried, its process ended"
    assert tried == [("decoder", "compiled", "eager", ended), ("field", "eager", "compiled", ended)]


def test_a_complete_choice_is_kept_and_one_of_a_search_that_failed_is_not(tune, tiny_model, model):
    tuner = Tuner(tiny_model, model, EngineSettings(device="cpu"), slots=1, audio_seconds=HOUR)
    cache = choice_cache.ChoiceCache(choose.cache_folder() / "engines", tuner._key())
    chosen = Tuned(Choice(Variant("eager", "float16"), Variant("eager"), 4), 60.0, 10.0, 1.0)
    cache.write(chosen)
    assert tuner.choose()[1] == chosen
    cache.write(replace(chosen, budget=0.0))
    assert tuner.choose()[0].engine == FLOAT16
