"""Learning curves: `curves.parquet` for analysis, TensorBoard events, and `curves.html` for viewing."""

import math
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tensorboardX import SummaryWriter

from pipeline.report.charts import charts, line_chart
from pipeline.report.html import document, escaped, made_now, picture
from pipeline.storage.objects import filesystem, put_file, write_bytes
from pipeline.storage.uris import join

CURVES, PAGE, EVENTS = "curves.parquet", "curves.html", "tensorboard"

_COLUMNS: list[tuple[str, Any]] = [("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())]
SCHEMA = pa.schema(_COLUMNS)

Point = tuple[int, str, float]
"""(steps done, name such as train/loss, value)."""


class Curves:
    """The learning curves of one run, which may have begun in an earlier job. Only the first worker has them."""

    def __init__(self, output: str, start: int, about: Sequence[tuple[str, object]] = ()) -> None:
        """`start` is the number of steps done before; points of an earlier job beyond it are recorded again.

        `about`: what is trained on what, for the page, as (name, value).
        """
        self._output, self._about = output, [*about, ("output", output)]
        self._points: list[Point] = [point for point in read_curves(output) if point[0] <= start]
        self._sheet = ""
        self._folder = Path(tempfile.mkdtemp(prefix="floatcast-"))
        self._writer = SummaryWriter(str(self._folder), purge_step=start + 1, flush_secs=10)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Add the points of a step."""
        for name, value in figures.items():
            self._points.append((step, name, float(value)))
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, jpeg: bytes) -> None:
        """Add a contact sheet: `sheets/step-000001000.jpg`."""
        self._sheet = f"sheets/step-{step:09d}.jpg"
        write_bytes(jpeg, join(self._output, self._sheet))

    def store(self) -> None:
        """Write everything to the output."""
        steps, names, values = zip(*self._points, strict=True) if self._points else ((), (), ())
        table = pa.table([pa.array(steps), pa.array(names), pa.array(values)], schema=SCHEMA)
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / CURVES
            pq.write_table(table, local)
            put_file(local, join(self._output, CURVES))
        write_bytes(page(self._points, self._sheet, self._about).encode(), join(self._output, PAGE))
        self._writer.flush()
        for file in self._folder.iterdir():
            put_file(file, join(self._output, EVENTS, file.name))

    def close(self) -> None:
        """Write everything, and remove the files on this machine's disk."""
        self.store()
        self._writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def read_curves(output: str) -> list[Point]:
    """Points of the runs of an output so far."""
    fs, path = filesystem(join(output, CURVES))
    if not fs.exists(path):
        return []
    with fs.open(path, "rb") as file:
        table = pq.read_table(file)
    return list(zip(*(table.column(name).to_pylist() for name in SCHEMA.names), strict=True))


# --- The page --------------------------------------------------------------------------------------------------


def page(points: Sequence[Point], sheet: str = "", about: Sequence[tuple[str, object]] = ()) -> str:
    """The newest contact sheet (its path relative to the page), and a chart per name, losses first."""
    drawn = curve_charts(points) if points else "<p>No step has been recorded yet.</p>"
    known = [*about, ("steps done", max((step for step, *_ in points), default=None)), made_now()]
    return document("Learning curves", [*_sheet(sheet), "<h2>Curves</h2>", drawn], known)


def _sheet(name: str) -> list[str]:
    if not name:
        return []
    place = escaped(name)
    label = "Contact sheet of held-out speakers, the newest"
    image = f'<a href="{place}"><img src="{place}" alt="{label}"></a>'
    return ["<h2>Held-out speakers</h2>", picture(name, image)]


def curve_charts(points: Sequence[Point]) -> str:
    """A chart per name, losses first."""
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for step, name, value in points:
        curves[name].append((step, value))
    ordered = sorted(curves.items(), key=lambda one: (not one[0].endswith("/loss"), one[0]))
    return charts(_chart(name, curve) for name, curve in ordered)


def _chart(name: str, curve: Sequence[tuple[int, float]]) -> str:
    steps, values = zip(*curve, strict=True)
    last = next((value for value in reversed(values) if math.isfinite(value)), math.nan)
    return line_chart(f"{name}: {last:.4g}", steps, {"": values}, "step")
