"""Workers that cannot work get no units: the others do theirs, or the execution ends and says why."""

import os
import time

import pytest
from ray.data import DataContext

from pipeline.cluster import feed
from pipeline.cluster.crew import looked_after
from pipeline.cluster.ray_data import RayExecutor
from pipeline.cluster.work_units import Unit
from pipeline.common.errors import ClusterError, WorkersLostError
from pipeline.common.stage import Pool, Resources, Stage


class Unfit(Stage):
    """Cannot be set up, or ends its process meanwhile: on the first worker that comes or on all."""

    name, resources = "unfit", Resources(0.5)

    def __init__(self, folder, *, all_of_them=False, dies=False):
        self._folder, self._all, self._dies = str(folder), all_of_them, dies

    def setup(self):
        import ray

        worker = ray.get_runtime_context().get_actor_id()
        try:
            with open(f"{self._folder}/first", "x") as file:
                file.write(worker)
        except FileExistsError:
            pass
        with open(f"{self._folder}/first") as file:
            if self._all or file.read() == worker:
                if self._dies:
                    os._exit(1)
                raise ClusterError("no such device")

    def process(self, items):
        for item in items:
            time.sleep(0.1)
            yield item


@pytest.mark.slow
@pytest.mark.parametrize("dies", [False, True])
def test_one_worker_that_cannot_be_set_up_leaves_its_work_to_the_other(local_ray, tmp_path, dies):
    pools = [Pool(Unfit(tmp_path, dies=dies), 2)]
    rows = list(RayExecutor().run([Unit([i]) for i in range(20)], pools))
    assert sorted(rows) == list(range(20))


@pytest.mark.slow
def test_without_a_worker_that_can_be_set_up_the_execution_ends_with_the_reason(local_ray, tmp_path, caplog):
    units = [Unit([i]) for i in range(3)]
    with pytest.raises(WorkersLostError, match=r"no worker of the stage unfit can work .*no such device"):
        list(RayExecutor().run(units, [Pool(Unfit(tmp_path, all_of_them=True), 2)]))
    assert "gets no more work of the stage unfit" in caplog.text
    # The cluster is free again for the next execution.
    assert list(RayExecutor().run([Unit(["next"])], [Pool(Fit(), 2)])) == ["next"]


class Fit(Stage):
    name, resources = "fit", Resources(0.5)

    def process(self, items):
        yield from items


class KillsItsWorker:
    """Unpickling it in a worker ends the process."""

    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.slow
def test_a_unit_that_kills_its_worker_every_time_has_no_result_and_the_others_have(local_ray, monkeypatch):
    """For a clip this row is added by `pipeline.run.plan.reconcile`."""
    monkeypatch.setattr(feed, "QUIET_SECONDS", 3.0)  # nothing is put off any more
    units = [Unit(["before"]), Unit([KillsItsWorker()]), Unit(["after"])]
    assert sorted(RayExecutor(retries=1).run(units, [Pool(Fit())])) == ["after", "before"]


class Slow(Fit):
    name = "slow"

    def process(self, items):
        time.sleep(5)
        yield from items


@pytest.mark.slow
def test_a_unit_that_takes_longer_than_rays_guard_has_its_result(local_ray, monkeypatch):
    monkeypatch.setattr(DataContext.get_current(), "execution_no_progress_timeout_s", 2.0)
    assert list(RayExecutor().run([Unit(["late"])], [Pool(Slow())])) == ["late"]


def test_results_and_errors_of_another_thread_arrive_in_order_and_looks_happen_in_between(monkeypatch):
    monkeypatch.setattr("pipeline.cluster.crew.LOOK_SECONDS", 0.01)
    looks = []

    def results():
        for i in range(5):
            time.sleep(0.02)
            yield i
        raise ValueError("the end")

    found = []
    looked = looked_after(results(), lambda: looks.append(len(found)))
    with pytest.raises(ValueError, match="the end"):
        found.extend(looked)
    assert found == [0, 1, 2, 3, 4]
    assert len(looks) >= 3


def test_what_a_look_raises_ends_the_wait_for_results_that_do_not_come(monkeypatch):
    monkeypatch.setattr("pipeline.cluster.crew.LOOK_SECONDS", 0.01)

    def results():
        time.sleep(3)
        yield 1

    def look():
        raise WorkersLostError("none left")

    with pytest.raises(WorkersLostError):
        list(looked_after(results(), look))
