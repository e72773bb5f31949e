"""`floatcast render --preview n`: a few clips of a manifest, cheaply, and what all of it will cost, on one page."""

import os
import shlex
import sys
import webbrowser
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice

from jobs.bench.capacity import Rates, Work, estimated_lengths, hours_of
from jobs.bench.job import Outcome as Section
from jobs.bench.job import Results
from jobs.cli.submitted import on_cluster
from pipeline.common.terminal import one_line, say
from pipeline.ledger.columns import ClipRow, values_of
from pipeline.ledger.table import table_rows
from pipeline.media.settings import parse_fps
from pipeline.report.html import made_now
from pipeline.report.preview_page import MOST_REJECTED, Preview, Previewed, write_preview
from pipeline.run.exit_codes import INCOMPLETE
from pipeline.run.prepare_run import Prepared
from pipeline.run.preview import PreviewSettings, preview_of
from pipeline.run.render_loop import RenderLoop
from pipeline.run.sample import Sample, choose
from pipeline.run.screen import Screen
from pipeline.storage.objects import read_bytes, write_bytes
from pipeline.storage.uris import is_local, join, local_path

FLAG = "--preview"

RATES = "rates.json"
"""In the preview's folder: what it measured, as jobs.benchmark writes it, for `jobs.benchmark --plan rates=`."""

LENGTHS_SECONDS = 60.0
"""Time for asking the storage how long the clips of the manifest are."""


def with_number(arguments: Sequence[str]) -> list[str]:
    """Arguments in which `--preview 4` and `--preview=4` are `--preview preview.clips=4`."""
    found: list[str] = []
    for argument in arguments:
        flag, _, number = argument.partition("=")
        if flag == FLAG and number:
            found += [FLAG, f"preview.clips={number}"]
        elif found[-1:] == [FLAG] and argument.isdecimal():
            found.append(f"preview.clips={argument}")
        else:
            found.append(argument)
    return found


def whole_command(arguments: Sequence[str]) -> str:
    """The command for the whole run, from the arguments (`with_number`) of its preview."""
    kept = (word for word in arguments if word != FLAG and not word.startswith("preview."))
    return shlex.join(["floatcast", "render", *kept])


def preview(prepared: Prepared, settings: PreviewSettings, arguments: Sequence[str], screen: Screen) -> int:
    """Choose clips, render them, write the page and open it; returns the exit code. Raises as `RenderLoop.render`."""
    given = Results.read(settings.rates) if settings.rates else None
    run = prepared.run
    clips = run.manifest.clips
    candidates = (one for one in run.selection.of(clips, run.statuses()) if one[1].gap_after is None)
    sample = choose(clips, islice(candidates, run.selection.limit or None), settings.clips)
    say(f"preview: {sample.describe()}")
    for one in sample.chosen:
        say(f"  row {one.clip.row}  {one_line(one.clip.clip_id)}  for {one_line(one.reason)}")
    previewed = preview_of(prepared, [one.clip for one in sample.chosen], settings)
    outcome = RenderLoop(previewed, screen).render()
    rows = {row["row"]: row for row in table_rows(outcome.table)} if outcome.table else {}
    measured = given or _measured(previewed, list(rows.values()))
    estimate, remarks = _estimate(prepared, measured)
    remarks += [_origin(settings, previewed)] if measured else []
    command = whole_command(arguments)
    rejected = run.manifest.rejected
    page = write_preview(
        Preview(
            output=previewed.run.output,
            clips=[Previewed(rows[o.clip.row], o.clip, o.reason) for o in sample.chosen if o.clip.row in rows],
            preset=prepared.settings.video.preset,
            told=sample.describe(),
            estimate=estimate,
            remarks=remarks,
            command=command,
            rejected=list(islice(rejected, MOST_REJECTED)),
            rejected_rows=len(rejected),
            about=_about(prepared, settings, sample),
        )
    )
    _print_end(list(rows.values()), len(rejected), estimate, page, command)
    if settings.browser:
        open_page(page)
    return outcome.code or (INCOMPLETE if rejected else outcome.code)


def open_page(uri: str) -> bool:
    """Open a page in the browser if a person sits before this terminal; returns whether that was tried.

    A job on a cluster never does. A browser within the terminal, which would take it over, is not used.
    """
    screen = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if on_cluster() or not is_local(uri) or not sys.stdout.isatty() or not screen:
        return False
    return webbrowser.open(f"file://{local_path(uri)}")


def _print_end(
    rows: Sequence[ClipRow], rejected: int, estimate: Sequence[tuple[str, str]], page: str, command: str
) -> None:
    print()
    for row in rows:
        said = row["error_message"] if row["status"] != "done" else ", ".join(row.get("qc_reasons") or ())
        print(f"  {row['status']}  {one_line(row['clip_id'])}{'  ' + said if said else ''}")
    if rejected:
        print(f"  {rejected} rows of the manifest are rejected: the page lists them")
    for name, value in estimate:
        print(f"{name:>11}  {value}")
    print(f"{'page':>11}  {page}")
    print(f"{'next':>11}  {command}")


# --- What the whole manifest costs -----------------------------------------------------------------------------


def _measured(previewed: Prepared, rows: Sequence[ClipRow]) -> Results | None:
    """The rates of the preview, which are kept in its folder; None if no clip was rendered.

    If all of its clips were done before, the rates are those of then.
    """
    place = join(previewed.run.output, RATES)
    if not previewed.run.tally.rendered["clips"]:
        try:
            return Results.decoded(read_bytes(place) or b"null")
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
    found = results_of(rows, int(previewed.settings.render.num_cpus), on_gpu=previewed.run.tally.gpus_per_worker > 0)
    write_bytes(found.encoded({}).encode(), place)
    return found


def results_of(rows: Sequence[ClipRow], cores: int, *, on_gpu: bool) -> Results:
    """Rates of rendered clips, in the form of a benchmark, for workers with so many CPUs."""
    done = [values_of(row) for row in rows if row["status"] == "done"]

    def total(*names: str) -> float:
        return max(1e-6, sum(row.get(name) or 0.0 for row in done for name in names))

    frames = total("frames")
    nfe = sum(row["frames"] * row["nfe"] for row in done) / frames
    engine = {
        "sampling": frames / total("sample_seconds"),
        "end_to_end": frames / total(*(f"{n}_seconds" for n in ("sample", "decode", "encoder_wait", "delivery_wait"))),
    }
    features = {"cpu_rate": total("duration") / total("speech_seconds")}
    features["load_seconds_a_clip"] = total("load_seconds") / max(1, len(done))
    return Results(
        {"cores": cores, "on_gpu": on_gpu, "nfe": max(1, round(nfe)), "clips": len(done)},
        {"features": Section("done", features), "rendering": Section("done", {"engine": engine})},
    )


def _estimate(prepared: Prepared, measured: Results | None) -> tuple[list[tuple[str, str]], list[str]]:
    """What `jobs.benchmark --plan` says of the manifest at these rates, and remarks about it."""
    if measured is None:
        return [], ["No clip was rendered, so there is no estimate of the cost."]
    clips, video = prepared.run.manifest.clips, prepared.settings.video
    rates = Rates.of(measured)
    lengths = estimated_lengths(clips, say, LENGTHS_SECONDS)
    work = Work.of(clips, lengths, rates, Fraction(parse_fps(video.fps)))
    found = [("clips", f"{work.clips}"), ("audio", f"about {_amount(work.speech / 3600, '')} (by the file sizes)")]
    found += [(stage, _amount(hours, f"{unit}-")) for stage, (hours, unit) in hours_of(work, rates).items()]
    remarks = ["Not included: the start of workers, quality control, retakes, and what is done already."]
    full = sum(clip.frame == "full" for clip in clips)
    presets = sorted({clip.preset or video.preset for clip in clips} - {"web"})
    if full or presets:
        more = [f"{full} of the clips are full frames"] if full else []
        more += [f"files are {', '.join(presets)}"] if presets else []
        remarks.append(f"The rates are those of the square in H.264, but {' and '.join(more)}: that takes longer.")
    return found, remarks


def _amount(hours: float, unit: str) -> str:
    return f"{hours:.2f} {unit}hours" if hours >= 0.1 else f"{60 * hours:.1f} {unit}minutes"


def _origin(settings: PreviewSettings, previewed: Prepared) -> str:
    if settings.rates:
        return f"The rates are those of {settings.rates}."
    mode = previewed.settings.render.mode
    text = f"The rates are those of these clips (render.mode={mode}); a long run may choose a faster engine."
    place = join(previewed.run.output, RATES)
    if not is_local(place):
        return text
    plan = shlex.join(["floatcast", "benchmark", "--plan", f"manifest={previewed.run.manifest.uri}", f"rates={place}"])
    return f"{text} For a cluster: {plan} cpus=64 gpus=8"


def _about(prepared: Prepared, settings: PreviewSettings, sample: Sample) -> list[tuple[str, object]]:
    model = prepared.model
    trained = "" if model.trained else ", UNTRAINED: its videos show noise, not faces"
    return [
        ("manifest", prepared.run.manifest.uri),
        ("model", f"{model.name} ({model.hash[:12]}), licence {model.licence}{trained}"),
        ("output of the whole run", prepared.run.output),
        ("preview", f"the first {settings.seconds:g} s of {len(sample.chosen)} clips, with fewer steps"),
        ("shown", "the animated square; of a dialogue the whole picture"),
        made_now(),
    ]
