"""Who is to blame for a dead worker: the clip, the place, or nobody."""

import pytest

from pipeline.common.attempts import SICK_ALONE, STARTS, AttemptBook, Decision, NoAttempts, Place

A, B = Place("node-a", "GPU 0"), Place("node-b", "GPU 0")


class Crew:
    """Workers of one stage, each at a place of its own."""

    def __init__(self, places, **settings):
        self.lost = set()
        self.book = AttemptBook(lambda node: node not in self.lost, **settings)
        self.places = places
        self.sick = {}
        for worker in places:
            self.start(worker)

    def start(self, worker):
        self.sick[worker] = self.book.arrive("render", worker, self.places[worker])
        if not self.sick[worker]:
            self.book.ready("render", worker)

    def begin(self, worker, clip):
        return self.book.begin("render", worker, clip, alone=True).decision

    def end(self, worker, clip):
        self.book.end("render", worker, clip)

    def dies_with(self, worker, *clips):
        for clip in clips:
            assert self.begin(worker, clip) in (Decision.TAKE, Decision.TAKE_ALONE), clip
        self.start(worker)

    def waits(self, worker, clip):
        """What the worker is told in the end, when nothing else happens."""
        while (decision := self.begin(worker, clip)) is Decision.WAIT:
            pass
        return decision

    def does(self, worker, clip):
        assert self.begin(worker, clip) in (Decision.TAKE, Decision.TAKE_ALONE)
        self.end(worker, clip)


def test_a_clip_that_no_worker_died_with_is_taken():
    crew = Crew({"a": A})
    answer = crew.book.begin("render", "a", "clip", alone=False)
    assert (answer.decision, answer.deaths, answer.seen) == (Decision.TAKE, 0, False)
    crew.end("a", "clip")
    again = crew.book.begin("render", "a", "clip", alone=False)
    assert (again.decision, again.deaths, again.seen) == (Decision.TAKE, 0, True)


def test_a_clip_that_kills_workers_at_two_places_is_left_alone():
    crew = Crew({"a": A, "b": B})
    crew.dies_with("a", "poison")
    crew.dies_with("b", "poison")
    assert crew.begin("a", "poison") is Decision.LEAVE
    assert crew.begin("b", "other") is Decision.TAKE


def test_a_clip_that_kills_a_worker_twice_at_a_place_that_works_in_between_is_left_alone():
    crew = Crew({"a": A})
    crew.dies_with("a", "poison")
    assert crew.begin("a", "poison") is Decision.WAIT  # others go first
    crew.does("a", "other")
    crew.dies_with("a", "poison")
    assert crew.begin("a", "poison") is Decision.LEAVE


def test_a_clip_that_is_alone_gets_three_tries():
    crew = Crew({"a": A})
    for _ in range(3):
        assert crew.waits("a", "poison") in (Decision.TAKE, Decision.TAKE_ALONE)
        crew.start("a")
    assert crew.begin("a", "poison") is Decision.LEAVE


def test_a_clip_waits_only_so_often():
    crew = Crew({"a": A}, postponed=1)
    crew.dies_with("a", "clip")
    assert [crew.begin("a", "clip") for _ in range(2)] == [Decision.WAIT, Decision.TAKE_ALONE]


def test_clips_that_share_a_death_are_tried_one_by_one_and_the_innocent_are_done():
    crew = Crew({"a": A, "b": B})
    crew.dies_with("a", "poison", "innocent")
    busy = crew.book.begin("render", "b", "innocent", alone=False)
    assert (busy.decision, busy.deaths) == (Decision.TAKE_ALONE, 1)
    crew.dies_with("b", "another")  # "innocent" was not taken: the worker was not alone
    crew.does("b", "innocent")
    assert crew.book.state("render").sick == {}


def test_the_loss_of_a_node_counts_against_no_clip():
    crew = Crew({"a": A, "b": B})
    for _ in range(5):
        assert crew.begin("a", "clip") is Decision.TAKE
        crew.lost.add("node-a")
        crew.start("a")
        crew.lost.clear()
    crew.does("b", "clip")


def test_a_worker_that_never_comes_back_gives_its_clip_to_another():
    crew = Crew({"a": A, "b": B})
    crew.begin("a", "clip")
    crew.lost.add("node-a")
    assert crew.begin("b", "clip") is Decision.TAKE


def test_a_place_where_different_clips_die_in_a_row_gets_no_more_work_and_its_clips_are_not_blamed():
    crew = Crew({"sick": A, "well": B})
    crew.does("sick", "before")
    for clip in ("1", "2", "3"):
        assert not crew.sick["sick"]
        crew.does("well", f"well-{clip}")
        crew.dies_with("sick", clip)
    assert "3 different clips in a row died here" in crew.sick["sick"]
    assert crew.book.state("render").sick.keys() == {A}
    assert (crew.book.state("render").arrived, crew.book.state("render").fit) == (2, 1)
    for clip in ("1", "2", "3"):
        crew.does("well", clip)


def test_one_clip_that_kills_again_and_again_does_not_make_its_place_sick():
    crew = Crew({"a": A, "b": B})
    for _ in range(2):
        crew.waits("a", "poison")
        crew.start("a")
    assert not crew.sick["a"]


def test_a_success_in_between_shows_that_a_place_works():
    crew = Crew({"a": A, "b": B})
    for clip in "1234567":
        crew.dies_with("a", clip)
        crew.does("a", f"other-{clip}")
    assert not crew.sick["a"]


def test_the_last_place_of_a_stage_is_given_up_later_because_the_job_ends_without_it():
    crew = Crew({"a": A})
    for clip in range(SICK_ALONE):
        assert not crew.sick["a"]
        crew.dies_with("a", str(clip))
    assert crew.sick["a"]
    assert crew.book.state("render").fit == 0


def test_workers_that_share_a_gpu_share_their_place():
    crew = Crew({"one": A, "two": A, "well": B})
    for worker, clip in (("one", "1"), ("two", "2"), ("one", "3")):
        crew.dies_with(worker, clip)
    crew.start("two")
    assert crew.sick["two"]


def test_a_place_where_workers_do_not_start_gets_no_more_work():
    book = AttemptBook()
    assert book.arrive("render", "a", A) == ""
    tries = [book.unfit("render", "a", "no CUDA") for _ in range(STARTS)]
    assert tries == [True] * (STARTS - 1) + [False]
    assert "no CUDA" in book.arrive("render", "other worker", A)
    assert book.arrive("render", "b", B) == ""


def test_a_place_where_workers_die_while_they_start_gets_no_more_work():
    book = AttemptBook()
    starts = [book.arrive("render", "a", A) for _ in range(STARTS + 1)]
    assert starts[:STARTS] == [""] * STARTS
    assert "die while they start" in starts[-1]


def test_each_stage_counts_for_itself():
    crew = Crew({"a": A})
    crew.dies_with("a", "clip")
    crew.book.arrive("features", "f", B)
    assert crew.book.begin("features", "f", "clip", alone=True).decision is Decision.TAKE


def test_a_worker_of_an_execution_that_is_over_gets_nothing():
    crew = Crew({"a": A})
    crew.begin("a", "clip")
    crew.book.forget_workers()
    assert crew.begin("a", "other") is Decision.WAIT
    crew.end("a", "clip")  # has no effect
    crew.start("a")
    crew.does("a", "clip")  # the stop of an execution is not a death


def test_where_another_place_can_try_a_clip_its_deaths_at_one_place_do_not_condemn_it():
    crew = Crew({"sick": A, "well": B})
    for _ in range(2):
        crew.waits("sick", "last clip")
        crew.start("sick")
    assert [crew.begin("sick", "last clip") for _ in range(3)] == [Decision.WAIT, Decision.WAIT, Decision.RETIRE]
    assert crew.book.begin("render", "sick", "any", alone=True).decision is Decision.RETIRE
    crew.does("well", "last clip")


@pytest.mark.parametrize("alone", [True, False])
def test_in_a_process_of_its_own_every_clip_is_taken(alone):
    attempts = NoAttempts()
    assert [attempts.begin("clip", alone=alone).decision for _ in range(5)] == [Decision.TAKE] * 5
    attempts.end("clip")
