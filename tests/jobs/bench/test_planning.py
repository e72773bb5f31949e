"""The measurement of planning plans what it says."""

import pytest

from jobs.bench.planning import PlanningJob, measure_planning


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_every_row_is_planned(kind, tmp_path):
    measured = measure_planning(PlanningJob(rows=50, sounds=7, bytes=10, format=kind, executor="serial"), tmp_path)
    assert measured["rows"] == 50
    assert measured["rows_per_second"] > 0
    assert measured["peak_memory_mb"] >= measured["growth_of_peak_memory_mb"]
