"""Learning curves: `curves.parquet` to compute with, TensorBoard's events, and `curves.html` to look at."""

import html
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

from pipeline.storage.objects import filesystem, join, put_file, write_bytes

CURVES, PAGE, EVENTS = "curves.parquet", "curves.html", "tensorboard"

_COLUMNS: list[tuple[str, Any]] = [("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())]
SCHEMA = pa.schema(_COLUMNS)

Point = tuple[int, str, float]
"""(steps done, name such as train/loss, value)."""


class Curves:
    """The curves of one run, which may have begun in an earlier job. Only the first worker has them."""

    def __init__(self, output: str, start: int) -> None:
        """`start`: steps that were done before; what an earlier job drew beyond it is drawn again."""
        self._output = output
        self._points: list[Point] = [point for point in read_curves(output) if point[0] <= start]
        self._sheet = ""
        self._folder = Path(tempfile.mkdtemp(prefix="floatcast-"))
        self._writer = SummaryWriter(str(self._folder), purge_step=start + 1, flush_secs=10)

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Points of a step."""
        for name, value in figures.items():
            self._points.append((step, name, float(value)))
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, jpeg: bytes) -> None:
        """A contact sheet: `sheets/step-000001000.jpg`."""
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
        write_bytes(page(self._points, self._sheet).encode(), join(self._output, PAGE))
        self._writer.flush()
        for file in self._folder.iterdir():
            put_file(file, join(self._output, EVENTS, file.name))

    def close(self) -> None:
        """Write everything, and remove what is on this machine's disk besides."""
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

WIDTH, HEIGHT, MARGIN = 420, 180, 46

STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 24px; color: #1a1a1a; background: #fff }
main { display: flex; flex-wrap: wrap; gap: 20px } figure { margin: 0 } figcaption { font-weight: 600 }
img { max-width: 100% } svg { background: #f6f6f6; border-radius: 4px } text { font-size: 11px; fill: #555 }
polyline { fill: none; stroke: #1560bd; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #eee } svg { background: #222 } text { fill: #aaa } polyline { stroke: #6fb1ff }
}
"""


def page(points: Sequence[Point], picture: str = "") -> str:
    """The newest contact sheet (its path beside the page), and a chart for each name, losses first. No scripts."""
    shown = (
        f'<p><img src="{html.escape(picture)}" alt="newest contact sheet of held-out speakers"></p>' if picture else ""
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Learning curves</title><style>{STYLE}</style>'
        f"<h1>Learning curves</h1>{shown}<main>{charts(points) or '<p>Nothing has been drawn yet.</p>'}</main></html>\n"
    )


def charts(points: Sequence[Point]) -> str:
    """HTML of a chart for each name, losses first."""
    curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for step, name, value in points:
        curves[name].append((step, value))
    ordered = sorted(curves.items(), key=lambda one: (not one[0].endswith("/loss"), one[0]))
    return "\n".join(_chart(name, curve) for name, curve in ordered)


def _chart(name: str, curve: Sequence[tuple[int, float]]) -> str:
    finite = [(step, value) for step, value in curve if math.isfinite(value)]
    label = html.escape(name)
    if not finite:
        return f"<figure><figcaption>{label}</figcaption><p>not finite</p></figure>"
    steps, values = zip(*finite, strict=True)
    first, last, low, high = min(steps), max(steps), min(values), max(values)
    wide, tall = max(1, last - first), (high - low) or 1.0
    places = " ".join(
        f"{MARGIN + (step - first) / wide * (WIDTH - MARGIN - 10):.1f},"
        f"{HEIGHT - 24 - (value - low) / tall * (HEIGHT - 40):.1f}"
        for step, value in finite
    )
    return (
        f"<figure><figcaption>{label}: {values[-1]:.4g}</figcaption>"
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{label} over steps">'
        f'<text x="4" y="20">{high:.3g}</text><text x="4" y="{HEIGHT - 24}">{low:.3g}</text>'
        f'<text x="{MARGIN}" y="{HEIGHT - 6}">{first}</text>'
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 6}" text-anchor="end">step {last}</text>'
        f'<polyline points="{places}"/></svg></figure>'
    )
