"""The second half of `jobs.prepare`: samples -> motion latents and speech features of a model."""

import json
import time

from jobs.cli.exit_codes import fail, told
from models import MOTION_FPS, ModelFolder
from pipeline.cluster.connect import open_executor
from pipeline.cluster.work_units import Units
from pipeline.common.errors import ClusterError
from pipeline.common.interruptions import held
from pipeline.common.progress import Progress, duration_text
from pipeline.common.stage import Resources
from pipeline.run.exit_codes import DONE, INCOMPLETE, INTERRUPTED, REFUSED
from pipeline.storage.objects import write_bytes
from pipeline.storage.uris import join
from pipeline.training_data.latents import LatentStage, plan_latents
from pipeline.training_data.places import Places
from pipeline.training_data.settings import WorkerSettings
from pipeline.training_data.targets import LATENT_SUMMARY

SHOWN = 20
"""Number of shards that are listed one by one."""


def encode(
    places: Places, source: str, model: ModelFolder, workers: WorkerSettings, executor: str, address: str
) -> int:
    """Everything from the plan to the summary; returns the exit code. `source` is the model as workers load it."""
    start = time.monotonic()
    todo, ready = plan_latents(places, model)
    if not todo and not ready:
        return fail(f"{places.output} has no samples: run stage=clips first", REFUSED)
    print(f"plan: {len(todo)} shards to encode, {len(ready)} done before", flush=True)
    frames = {shard.key: shard.frames for shard in todo}
    failed, code = dict.fromkeys(frames, "lost"), DONE
    try:
        if todo:
            resources = Resources(workers.num_cpus, workers.num_gpus)
            stage = LatentStage(places, source, workers.video_minutes, resources)
            units = Units(
                todo, list(frames.values()), 1.0
            )  # each shard alone: it contains a whole video, and takes time
            length = sum(frames.values()) / MOTION_FPS
            with (
                open_executor(executor, address) as cluster,
                Progress(len(todo), length, lambda row: frames[row["key"]] / MOTION_FPS, things="shards") as progress,
            ):
                for row in cluster.run_stage(units, stage, workers.workers):
                    progress.add(row)
                    if row["status"] == "done":
                        del failed[row["key"]]
                    else:
                        failed[row["key"]] = f"{row['error_code']}: {row['message']}"
    except KeyboardInterrupt:
        code = fail("interrupted: finished shards are kept; run the same command again to resume", INTERRUPTED)
    except ClusterError as error:
        return told(error)
    except Exception as error:  # what is done is still reported
        code = told(error, "the job could not continue")
    code = code or (INCOMPLETE if failed else DONE)
    summary = {
        "run": places.run,
        "exit_code": code,
        "stage": "latents",
        "model": model.hash,
        "encoded": len(todo) - len(failed),
        "done_before": len(ready),
        "failed": failed,
        "seconds": round(time.monotonic() - start, 1),
    }
    with held():
        write_bytes(json.dumps(summary, indent=1).encode(), join(places.output, LATENT_SUMMARY))
    for key, problem in list(failed.items())[:SHOWN]:
        print(f"  failed  {key}: {problem}")
    seconds = sum(frames[key] for key in frames if key not in failed) / MOTION_FPS
    print(f"{'encoded':>11}  {len(todo) - len(failed)} shards, {duration_text(seconds)} of video")
    print(f"{'failed':>11}  {len(failed)}")
    print(f"{'time':>11}  {duration_text(time.monotonic() - start)}")
    print(f"{'next':>11}  python -m jobs.train stage=motion data={places.output} model={source} ...")
    return code
