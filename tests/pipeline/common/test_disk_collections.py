"""What is kept on the disk is what was put there, and memory does not grow with it."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.common.disk_collections import DiskDict, Spool, batched, mapped

ROOT = Path(__file__).parents[3]


def test_a_spool_is_a_list_that_grows_while_it_is_read():
    spool = Spool([{"a": 1}, None])
    seen = []
    for item in spool:
        seen.append(item)
        if len(spool) < 4:
            spool.append("more")
    assert seen == spool == [{"a": 1}, None, "more", "more"]
    assert (spool[0], spool[-1], spool[1:3]) == ({"a": 1}, "more", [None, "more"])
    with pytest.raises(IndexError):
        spool[4]


def test_a_disk_dict_knows_its_keys_and_no_others():
    found = DiskDict([("a/1", ""), ("b", "x"), ("b", "y")])
    assert "a/1" in found
    assert "a" not in found
    assert (found.get("b"), found.get("c")) == ("y", None)


def test_groups_are_full_but_for_the_last():
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]


def test_results_come_in_order_and_the_source_is_read_only_a_little_ahead():
    read, lock, most = [], threading.Lock(), []

    def source():
        for i in range(200):
            read.append(i)
            yield i

    def slow(i):
        time.sleep(0.001 * (i % 3))
        return i * i

    for count, (item, result) in enumerate(mapped(slow, source(), threads=4), start=1):
        assert result == item * item
        with lock:
            most.append(len(read) - count)
    assert read == list(range(200))
    assert max(most) <= 16


def test_an_error_of_the_action_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(mapped(lambda i: 1 // i, [1, 0], threads=2))


PLAN = """
import json, sys
from pathlib import Path
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.reader import read_manifest
from pipeline.run.plan import make_plan, write_plan
from pipeline.run.selection import Selection
from pipeline.cluster.work_units import Units
from pipeline.common.limits import Limits
from tests.memory import growth

def plan(rows):
    folder = Path(sys.argv[1], str(rows))
    folder.mkdir()
    with (folder / "m.jsonl").open("w") as file:
        for i in range(rows):
            file.write(json.dumps({"clip_id": f"clip-{i:07}", "image": "i.png", "audio": "a.wav", "seed": i}) + "\\n")
    manifest = read_manifest(str(folder / "m.jsonl"))
    plan = make_plan(manifest.clips, Ledger(str(folder)), {}, Limits(), Selection(), {})
    write_plan(plan, str(folder), {})
    assert len(plan.todo) == rows
    assert sum(len(unit.items) for unit in Units(plan.todo, [2.0] * rows, 60.0)) == rows

plan(5_000)  # what libraries need once is in memory from here on
print(growth(lambda: plan(20_000)))
"""


@pytest.mark.slow
def test_the_memory_of_planning_does_not_grow_with_the_manifest(tmp_path):
    # A process of its own: memory that another test has left would hide what is used.
    done = subprocess.run([sys.executable, "-c", PLAN, tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    # Measured: 3. Clips as Python objects would take 19 MB more, with the parts of their fingerprints twice that.
    assert float(done.stdout) < 10


def test_a_dict_that_was_empty_finds_what_is_added():
    found = DiskDict()
    assert found.get("a") is None
    assert "a" not in found
    assert found.add("a", "1")
    assert found.get("a") == "1"
    assert not found.add("a", "2")
    assert DiskDict([("b", "3")]).get("b") == "3"
