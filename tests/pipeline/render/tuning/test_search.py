"""The search: the fastest accepted engine, within its time, whatever candidates do."""

import json
from dataclasses import replace

import pytest
import torch

from pipeline.render.tuning import candidates
from pipeline.render.tuning.candidates import COMPILE_SECONDS, Ground, eager, steps, useful_precisions
from pipeline.render.tuning.search import search
from pipeline.render.tuning.trial import Trial
from pipeline.render.variants import Choice, Variant

GPU = Ground(
    gpu=True,
    precisions=("tf32", "bfloat16", "float16"),
    batches=True,
    compilers=("compiled", "inductor"),
    fast_field=True,
    graphs=True,
)
CPU = Ground(
    gpu=False, precisions=("bfloat16", "int8"), batches=True, compilers=("compiled",), fast_field=True, graphs=False
)
START = eager(32)
SECONDS = {"decoder": 1.0, "field": 1.0}


def name(part, choice):
    return f"decoder {choice.decoder} x{choice.frame_batch}" if part == "decoder" else f"field {choice.field}"


class Attempts:
    """Trials with known outcomes; everything else takes as long as the start. Trying takes a second of its clock."""

    def __init__(self, **outcomes):
        self.outcomes, self.tried, self.risky, self.limits, self.now = outcomes, [], set(), [], 0.0

    def __call__(self, part, choice, risky, limit):
        self.now += 1
        self.limits.append(limit)
        self.tried.append(name(part, choice))
        if risky:
            self.risky.add(name(part, choice))
        words = name(part, choice).split()
        for outcome, trial in self.outcomes.items():
            if set(outcome.split("_")) <= set(words):
                return trial
        return Trial(seconds=1.0)

    def search(self, ground=GPU, budget=1e9):
        return search(self, START, SECONDS, steps(ground), budget, clock=lambda: self.now)


def test_without_a_faster_candidate_the_start_is_kept():
    attempts = Attempts()
    assert attempts.search().choice == START
    assert attempts.search().complete


def test_decoder_and_field_are_chosen_separately():
    attempts = Attempts(decoder_float16=Trial(seconds=0.5), field_tf32=Trial(seconds=0.7))
    assert str(attempts.search().choice) == "decoder eager float16 x32, field eager tf32"


def test_each_step_starts_from_the_best_of_the_one_before():
    attempts = Attempts(
        decoder_compiled_float16_x64=Trial(seconds=0.2),
        decoder_float16_x64=Trial(seconds=0.4),
        decoder_float16=Trial(seconds=0.5),
        field_graph_inductor=Trial(seconds=0.3),
        field_inductor=Trial(seconds=0.6),
    )
    chosen = "decoder compiled float16 x64, field inductor float32 graph"
    assert str(attempts.search().choice) == chosen


def test_a_faster_one_that_is_refused_is_not_taken_and_its_reason_is_kept():
    attempts = Attempts(decoder_float16=Trial("its worst frame has 30.0 dB", 0.1), decoder_tf32=Trial(seconds=0.8))
    found = attempts.search()
    assert found.choice.decoder.precision == "tf32"
    assert found.refused["decoder eager float16 x32"] == "its worst frame has 30.0 dB"


def test_what_is_refused_in_every_trial_leaves_the_start():
    attempts = Attempts(decoder=Trial("it ran out of memory"), field=Trial("its process ended"))
    found = attempts.search()
    assert found.choice == START
    assert len(found.refused) == len(attempts.tried)


def test_a_gain_within_the_error_of_measurement_is_none():
    assert Attempts(decoder_float16=Trial(seconds=0.98)).search().choice == START


def test_after_its_time_nothing_more_is_tried_and_the_search_is_not_complete():
    attempts = Attempts(decoder_tf32=Trial(seconds=0.5))
    found = attempts.search(budget=2)
    assert len(attempts.tried) == 2
    assert found.choice.decoder.precision == "tf32"
    assert not found.complete


def test_a_candidate_may_take_what_is_left_of_the_time_and_always_half_a_minute():
    attempts = Attempts()
    attempts.search(budget=32)
    assert attempts.limits[:5] == [32, 31, 30, 30, 30]


def test_what_is_compiled_for_a_cpu_has_the_time_that_compiling_takes():
    """On a GPU a worker that waits costs more."""
    attempts = Attempts()
    attempts.search(CPU, budget=6)
    assert attempts.tried[-2:] == ["decoder compiled int8 x32", "decoder compiled bfloat16 x32"]
    assert attempts.limits == [30, 30, 30, 30, COMPILE_SECONDS, COMPILE_SECONDS]
    attempts = Attempts()
    attempts.search(replace(GPU, precisions=(), batches=False), budget=3)
    assert attempts.tried[1:] == ["decoder compiled float32 x32", "decoder inductor float32 x32"]
    assert attempts.limits == [30, 30, 30]


def test_candidates_come_from_safe_to_risky():
    attempts = Attempts()
    attempts.search()
    risky = [one in attempts.risky for one in attempts.tried]
    assert risky == sorted(risky)
    assert not any({"compiled", "inductor", "graph"} & set(one.split()) for one in set(attempts.tried) - attempts.risky)
    assert all({"compiled", "inductor", "graph"} & set(one.split()) for one in attempts.risky)
    assert attempts.tried[-1] == "field eager float32 graph"


def test_a_cpu_tries_only_what_can_help_it():
    attempts = Attempts()
    attempts.search(CPU)
    assert attempts.tried == [
        "decoder eager bfloat16 x32",
        "decoder eager int8 x32",
        "field eager bfloat16",
        "field eager int8",
        *(f"decoder compiled {precision} x32" for precision in ("int8", "bfloat16", "float32")),
        *(f"field compiled {precision}" for precision in ("int8", "bfloat16", "float32")),
    ]


def test_float32_reduces_nothing():
    for device in ("cpu", "cuda"):
        assert useful_precisions(torch.device(device), "float32") == ()
    assert set(useful_precisions(torch.device("cuda"), "auto")) == {"tf32", "bfloat16", "float16"}


@pytest.mark.parametrize(
    ("bfloat16", "int8", "useful"),
    [(True, True, ("bfloat16", "int8")), (True, False, ("bfloat16",)), (False, True, ())],
)
def test_a_cpu_is_offered_what_it_has_instructions_for(monkeypatch, bfloat16, int8, useful):
    """Integers come with bfloat16 between them."""
    monkeypatch.setattr(candidates, "has_bfloat16", lambda device: bfloat16)
    monkeypatch.setattr(candidates, "has_int8", lambda: int8)
    assert useful_precisions(torch.device("cpu"), "auto") == useful


CHOICE = Choice(Variant("compiled", "float16", "contiguous"), Variant("eager", graph=True), 64)


def test_a_choice_survives_json():
    assert Choice.from_values(json.loads(json.dumps(CHOICE.values()))) == CHOICE
    assert str(CHOICE) == "decoder compiled float16 contiguous x64, field eager float32 graph"


@pytest.mark.parametrize(
    "change",
    [{"frame_batch": 0}, {"frame_batch": True}, {"decoder": {"mode": 1}}, {"field": {"speed": 2}}, {"field": None}],
)
def test_nothing_else_is_taken_for_a_choice(change):
    with pytest.raises((TypeError, ValueError)):
        Choice.from_values(CHOICE.values() | change)


def test_a_cpu_compiles_the_most_reduced_precision_and_the_next_one_only_if_that_is_no_gain():
    quick, quicker = Trial(seconds=0.5), Trial(seconds=0.25)
    works = Attempts(int8_compiled=quicker, bfloat16=quick)  # uncompiled, integers are no gain
    assert works.search(CPU).choice.decoder == Variant("compiled", "int8")
    assert sorted(works.risky) == ["decoder compiled int8 x32", "field compiled int8"]
    for trial in (Trial(problem="no such kernel"), Trial(seconds=1.0)):
        fails = Attempts(int8_compiled=trial, bfloat16_compiled=quicker, bfloat16=quick)
        assert fails.search(CPU).choice.field == Variant("compiled", "bfloat16")
        assert not any("float32" in tried for tried in fails.risky)


def test_what_gave_wrong_results_is_not_compiled_for_a_cpu():
    attempts = Attempts(int8=Trial(problem="its worst frame has 30.0 dB"))
    attempts.search(CPU)
    assert sorted(attempts.risky) == sorted(
        f"{part} compiled {precision}{batch}"
        for part, batch in (("decoder", " x32"), ("field", ""))
        for precision in ("bfloat16", "float32")
    )


def test_a_cpu_compiles_nothing_of_a_decoder_that_runs_in_c_plus_plus():
    ground = replace(CPU, native=True)
    works = Attempts(native_x64=Trial(seconds=0.4), native=Trial(seconds=0.5))
    assert str(works.search(ground).choice) == "decoder native int8 x64, field eager float32"
    assert [one for one in works.tried if "decoder" in one and one in works.risky] == ["decoder native int8 x32"]
    fails = Attempts(native=Trial(problem="its process ended"), int8_compiled=Trial(seconds=0.5))
    assert fails.search(ground).choice.decoder == Variant("compiled", "int8")
    with pytest.raises(ValueError, match="int8, not in float32"):
        Variant("native")
