"""What follows from the figures: ratios, shares of the ceilings, what limits, and the table."""

from collections.abc import Iterator

from jobs.bench.job import Figures, Results
from jobs.bench.sections import SECTIONS
from pipeline.run.bottleneck import ADVICE

STAGES = {
    "portrait": "images/s",
    "sampling": "frames/s",
    "decode": "frames/s",
    "encode": "frames/s",
    "end_to_end": "frames/s",
    "features": "s of speech/s",
}

FPS = 25

CLIP_SECONDS = 10.0
"""Length of a clip, for what is spent once for each."""

LIMITS = {
    "sampling": "render",
    "decode": "render",
    "encode": "encoder",
    "features": "features",
    "load": "inputs",
    "quality": "quality_control",
}
"""Step -> what `pipeline.run.bottleneck` calls it if it limits."""

FRAME_BYTES = 20_000
"""A generous H.264 frame at 512 px."""


def stages(results: Results) -> Figures:
    """Rates of both, their ratio and the PSNR, for every stage of which a rate was measured."""
    found: Figures = {}
    for name, unit in STAGES.items():
        baseline, engine = (results.of_stage(name, kind) for kind in ("baseline", "engine"))
        if baseline is None and engine is None:
            continue
        ratio = engine / baseline if engine and baseline else None
        psnr = results.of_stage(name, "psnr")
        found[name] = {"unit": unit, "baseline": baseline, "engine": engine, "ratio": ratio, "psnr": psnr}
    return found


def shares(results: Results) -> Figures:
    """Share of the measured ceilings that sampling and decoding reach, for the type in which they compute."""
    found: Figures = {}
    for name in ("sampling", "decode"):
        rate, gflop = results.of_stage(name, "engine"), results.value("rendering", f"{name}_gflop_a_frame")
        dtype = results.figures("rendering").get("precisions", {}).get(name, "float32")
        ceiling = results.value("ceilings", f"{dtype}_gflops")
        if rate and gflop and ceiling:
            found[name] = {"type": dtype, "gflops": gflop * rate, "ceiling_gflops": ceiling}
            found[name]["share"] = found[name]["gflops"] / ceiling
        gigabytes = results.value("rendering", f"{name}_gigabytes_a_frame_unfused")
        copy = results.value("ceilings", "copy_gb_per_second")
        if name in found and rate and gigabytes and copy:  # the eager modules move as much; compiled ones move less
            found[name]["copy_share_unfused"] = gigabytes * rate / copy
    return found


def spent_on(results: Results, on_gpu: bool) -> dict[str, dict[str, float]]:
    """Seconds that a delivered frame takes of the GPU and of all CPUs together, step by step, as far as measured.

    With the default settings: speech is encoded on CPUs, whatever the device is.
    """
    cores = results.value("machine", "cores") or 1.0
    device: dict[str, float] = {}
    cpus: dict[str, float] = {}
    for step in ("sampling", "decode"):
        if rate := results.of_stage(step, "engine"):
            device[step] = 1 / rate
    if rate := results.of_stage("encode", "engine"):
        cpus["encode"] = 1 / (rate * cores)
    if rate := results.value("features", "cpu_rate") or results.value("features", "float32_rate"):
        cpus["features"] = 1 / (rate * FPS)
    if load := results.value("features", "load_seconds_a_clip"):
        cpus["load"] = load / (CLIP_SECONDS * FPS * cores)
    if (spent := results.value("quality", "seconds_one_core")) and (length := results.value("quality", "clip_seconds")):
        cpus["quality"] = spent / (length * FPS * cores)
    return {"GPU": device, "CPUs": cpus} if on_gpu else {"CPUs": device | cpus}


def limit(results: Results, on_gpu: bool) -> str:
    """One sentence: what limits this machine, what would help, and which steps take how much of the time."""
    times = {place: steps for place, steps in spent_on(results, on_gpu).items() if steps}
    if not any({"decode", "sampling"} <= set(steps) for steps in times.values()):
        return "what limits this machine is not known, because the engine was not measured"
    place, steps = max(times.items(), key=lambda found: sum(found[1].values()))
    total = sum(steps.values())
    disk = results.value("encode", "disk_mb_per_second")
    if disk and FRAME_BYTES / (disk * 1e6) > total:
        return f"{ADVICE['delivery']} (the disk for temporary files takes {disk:.0f} MB/s)"
    ordered = sorted(steps, key=lambda name: -steps[name])
    parts = ", ".join(f"{name} {steps[name] / total:.0%}" for name in ordered)
    return f"{ADVICE[LIMITS[ordered[0]]]} (the {place} can deliver {1 / total:.1f} frames/s with all steps: {parts})"


def derived(results: Results, on_gpu: bool) -> Figures:
    """Everything here, for the JSON file."""
    return {"stages": stages(results), "shares": shares(results), "limit": limit(results, on_gpu)}


def markdown(results: Results, on_gpu: bool) -> str:
    """The table for a README, with the conditions above and the remarks below it."""
    return "\n".join([*_head(results), "", *_rows(results), "", *_remarks(results, on_gpu)]) + "\n"


def _head(results: Results) -> Iterator[str]:
    machine, settings = results.figures("machine"), results.settings
    device = machine.get("gpu") or f"{machine.get('cores', '?')} cores of {machine.get('cpu', 'a CPU')}"
    yield (
        f"{settings.get('model', '?')} model, {device}, PyTorch {machine.get('torch', '?')}, "
        f"nfe {settings.get('nfe', '?')}, {settings.get('date', '')}"
    )


def _rows(results: Results) -> Iterator[str]:
    yield "| stage | released algorithm | engine | ratio | PSNR of its frames |"
    yield "|---|---|---|---|---|"
    for name, row in stages(results).items():
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.1f}"
        psnr = "" if row["psnr"] is None else "exact" if row["psnr"] >= 100 else f"{row['psnr']:.1f} dB"
        rates = (_rate(row[kind], row["unit"]) for kind in ("baseline", "engine"))
        yield f"| {name.replace('_', ' ')} | {' | '.join(rates)} | {ratio} | {psnr} |"


def _rate(value: float | None, unit: str) -> str:
    return "not measured" if value is None else f"{value:.3g} {unit}"


def _remarks(results: Results, on_gpu: bool) -> Iterator[str]:
    said = limit(results, on_gpu)
    yield f"{said[0].upper()}{said[1:]}."
    engine = results.figures("rendering").get("name")
    if engine:
        yield f"Engine: {engine}."
    for name, share in shares(results).items():
        yield (
            f"{name.capitalize()} runs at {share['gflops']:.0f} GFLOP/s, {share['share']:.0%} of the "
            f"{share['ceiling_gflops']:.0f} that products in {share['type']} reach here; uncompiled it would move "
            f"{share.get('copy_share_unfused', 0):.0%} of the bytes that a copy moves."
        )
    load = results.value("features", "load_seconds_a_clip")
    if load is not None:
        yield f"Load seconds a clip: {load:.3f}."
    peaks = [found.figures.get("peak_memory_gb") for found in results.sections.values()]
    gpu_peaks = [found.figures.get("peak_gpu_memory_gb") for found in results.sections.values()]
    if known := [peak for peak in peaks if peak]:
        on_device = [peak for peak in gpu_peaks if peak]
        more = f", of the GPU {max(on_device):.1f} GB" if on_device else ""
        yield f"Peak memory of the process: {max(known):.1f} GB{more}."
    for name in (section.name for section in SECTIONS):
        outcome = results.sections.get(name)
        if outcome is not None and outcome.status != "done":
            how = "failed" if outcome.status == "failed" else "was skipped"
            yield f"Section {name} {how}: {outcome.reason}."
