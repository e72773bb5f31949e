"""Clips of a programme in the engine: one after another, each from where the motion of the one before it ended.

A clip begins when the last window of the one before it is sampled, while that one is still encoded: what happens to its
file afterwards changes nothing for the next.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from models.config import FloatConfig
from pipeline.common.attempts import PutOff
from pipeline.common.errors import ClipError
from pipeline.ledger.ledger import Ledger
from pipeline.render.clip_job import ClipJob
from pipeline.render.continuation import Ending, anew, last_frames, stored_ending
from pipeline.render.motion_inputs import MotionStart


def linked(jobs: Sequence[ClipJob]) -> list[ClipJob]:
    """Tie each clip that goes on from another one of its unit to that; returns those that can begin at once."""
    ready: list[ClipJob] = []
    last: ClipJob | None = None
    for job in jobs:
        how = job.item.continued
        if how is not None and how.before is not None and how.before.motion is None:
            assert last is not None
            last.following = job
        else:
            job.before = None if how is None else how.before
            ready.append(job)
        last = job
    return ready


def start_of(job: ClipJob) -> MotionStart | None:
    """What the motion of a clip goes on from; None if it begins anew."""
    before = job.before
    if before is None:
        return None
    assert before.motion is not None
    return MotionStart(before.motion, before.speech, before.pose, before.windows)


def add_motion(job: ClipJob, motion: Tensor, *, last: bool) -> None:
    """Take the next latents (n,D) of a clip; with the last ones, its ending is known."""
    how = job.item.continued
    if how is None:
        return
    count = len(how.after.speech)
    if job.latents is None:
        job.latents = torch.zeros(count, motion.shape[1], device=motion.device)
        if (start := start_of(job)) is not None:
            job.latents = torch.from_numpy(start.motion).to(motion.device, non_blocking=True)
    job.latents = torch.cat([job.latents, motion])[-(count + 2) :]  # one more on each side of the times that are kept
    if last:
        first = how.motions - len(job.latents)  # its time
        job.ending = replace(how.after, motion=last_frames(None, job.latents.cpu().numpy(), how.end - first, count))


def go_on(job: ClipJob, ledger: Ledger, config: FloatConfig) -> ClipJob | None:
    """The clip after one that has no more motion to come, if it can begin now.

    If that one has failed or was put off, all clips after it are left to another worker, which begins them anew.
    """
    following, job.following = job.following, None
    if following is None:
        return None
    try:
        following.before = job.ending or _ending_before(job, ledger, config)
    except ClipError as error:
        following.fail(error)
        return go_on(following, ledger, config)
    if following.before is not None:
        return following
    result = job.ended.result()
    assert not isinstance(result, PutOff)
    _leave(following, f"the row before it, {job.item.clip.clip_id}, ended with {result.get('error_code')}")
    return None


def put_off(job: ClipJob) -> None:
    """Leave a clip, and all that wait for it, to another worker."""
    if job.item.continued is None:
        job.ended.set_result(PutOff(job.item.clip))
    else:
        _leave(job)


def stop(job: ClipJob, error: Exception) -> None:
    """End a clip and all that wait for it."""
    waiting: ClipJob | None = job
    while waiting is not None:
        waiting.fail(error)
        waiting = waiting.following


def _ending_before(job: ClipJob, ledger: Ledger, config: FloatConfig) -> Ending | None:
    """How a clip ended that an earlier worker has rendered; None if it failed here."""
    result = job.ended.result()
    if isinstance(result, PutOff) or result["status"] != "done":
        return None
    return stored_ending(ledger, job.item.clip.clip_id, job.item.clip.fingerprint, config)


def _leave(first: ClipJob, why: str = "") -> None:
    """Put off a clip and all that wait for it, as one; with a reason, the first one will begin anew."""
    rest: list[ClipJob] = []
    waiting: ClipJob | None = first
    while waiting is not None:
        rest.append(waiting)
        waiting = waiting.following
    clips = [job.item.continued.clip for job in rest if job.item.continued is not None]
    if why:
        clips[0] = anew(clips[0], why)
    for job in rest:
        job.following = None
        job.ended.set_result(PutOff(clips if job is first else []))
