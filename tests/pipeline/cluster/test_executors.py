"""Stages run by the serial executor: in order, each worker set up once and closed, errors of a unit its own."""

import torch

from pipeline.cluster.serial import SerialExecutor
from pipeline.cluster.work_units import Unit
from pipeline.common.stage import Part, Pool, Resources, Stage, started
from pipeline.qc.settings import QcSettings
from pipeline.render.settings import EngineSettings, FeatureSettings


class Doubles:
    """Twice its numbers; raises for 13."""

    name = "doubles"
    resources = Resources()

    def __init__(self, log):
        self.log = log

    def setup(self):
        self.log.append("setup")
        torch.set_num_threads(1)

    def process(self, items):
        for item in items:
            if item == 13:
                raise ZeroDivisionError("a bug")
            self.log.append(item)
            yield 2 * item

    def close(self):
        self.log.append("close")


def test_a_unit_goes_through_all_stages_before_the_next_and_results_come_one_by_one():
    log = []
    rows = SerialExecutor().run([Unit([1, 2]), Unit([3])], [Pool(Doubles(log)), Pool(Doubles(log))])
    assert next(rows) == 4
    assert log == ["setup", "setup", 1, 2, 2]  # the second item has not come to the last stage yet
    assert list(rows) == [8, 12]
    assert log == ["setup", "setup", 1, 2, 2, 4, 3, 6, "close", "close"]


def test_an_exception_of_a_stage_costs_what_is_left_of_its_unit(caplog):
    rows = list(SerialExecutor().run([Unit([1, 13, 2]), Unit([3])], [Pool(Doubles([]))]))
    assert rows == [2, 6]
    assert "a work unit of 3 items ended in an error" in caplog.text


def test_who_stops_early_closes_the_stages():
    log = []
    rows = SerialExecutor().run_stage([Unit([1, 2, 3])], Doubles(log))
    next(rows)
    rows.close()
    assert log[-1] == "close"


def test_threads_that_a_stage_sets_are_put_back():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(SerialExecutor().run_stage([Unit([1])], Doubles([])))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_nothing_to_do_sets_nothing_up():
    log = []
    assert list(SerialExecutor().run([], [Pool(Doubles(log))])) == []
    assert log == []


class Tells(Stage):
    """Lets others look while it works."""

    resources = Resources()

    def __init__(self, name, look):
        self.name, self._look, self._item = name, look, None

    @property
    def under_way(self):
        return {} if self._item is None else {self._item: Part(self.name, 1, 4, 7)}

    def process(self, items):
        for item in items:
            self._item = item
            self._look()
            self._item = None
            yield item


def test_others_see_which_stage_has_an_item_and_how_far_it_is():
    executor, seen = SerialExecutor(), []
    stages = [Tells(name, lambda: seen.append(executor.under_way())) for name in ("one", "two")]
    assert list(executor.run([Unit(["a"])], [Pool(stage) for stage in stages])) == ["a"]
    assert seen == [{"a": Part("one", 1, 4, 7)}, {"a": Part("two", 1, 4, 7)}]
    assert executor.under_way() == {}


def test_a_stage_can_be_started_in_this_process():
    log = []
    assert list(started(Doubles(log)).process([4])) == [8]


def test_one_process_has_one_worker_of_each_stage():
    executor = SerialExecutor()
    settings = FeatureSettings(workers=8), EngineSettings(workers=4, num_gpus=0), QcSettings(workers=3)
    pools = executor.pools(*settings, minutes=0)
    assert (pools.features.workers, pools.render.workers, pools.qc.workers) == (1, 1, 1)
    assert pools.describe() == "this process, one stage after another (auto)"
    assert executor.cpus >= 1
