"""The render stage (GPU): features -> motion -> frames -> delivered MP4. Runs without Ray.

Clips take slots (`pipeline.render.continuous_batching`). In every round the next window of each clip is sampled in one
batch, and its frames are decoded and handed to the clip's encoder before the next round starts. A clip therefore never
has more than a window of motion and a queue of frames in memory, however long it is. Encoding, verification and upload
run in background threads. Decoded frames never leave the process.
"""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import torch

from models import ModelFolder, load_float
from models.sampling import choose_sampler
from pipeline.common.attempts import Attempts, Decision, NoAttempts, PutOff
from pipeline.common.broken_device import end_process
from pipeline.common.watchdog import Watchdog
from pipeline.ledger.columns import ClipRow
from pipeline.ledger.ledger import Ledger
from pipeline.media.settings import ProvenanceSettings, VideoSettings, parse_fps
from pipeline.render.clip_chain import add_motion, go_on, linked, put_off, start_of, stop
from pipeline.render.clip_job import ClipJob, interrupted, row_of
from pipeline.render.compose import composed, composer_of
from pipeline.render.continuous_batching import Advance, MotionSlots
from pipeline.render.delivery import Deliverer
from pipeline.render.device import choose_slots, open_render_device
from pipeline.render.face_job import FaceJob, decoded_together, in_step, motion_inputs
from pipeline.render.feature_stage import ClipFeatures
from pipeline.render.handover import Handover
from pipeline.render.motion_resampler import MotionResampler
from pipeline.render.mouth_probe import resting_mouth
from pipeline.render.self_test import check_fit
from pipeline.render.settings import EngineSettings
from pipeline.render.tuning.choose import Tuner


class Engine:
    """Renders clips. There is one instance per worker process, and it holds the model on its device."""

    def __init__(
        self,
        model: ModelFolder,
        settings: EngineSettings,
        video: VideoSettings,
        ledger: Ledger,
        provenance: ProvenanceSettings | None = None,
        attempts: Attempts | None = None,
        *,
        audio_seconds: float = 0.0,
    ) -> None:
        """`audio_seconds` is what this worker has to render, 0 if unknown: tuning takes a share of that time."""
        torch.set_num_threads(max(1, int(settings.num_cpus)))
        self._device = open_render_device(settings.device, settings.num_gpus)
        self._settings = settings
        self._columns: ClipRow = {
            "model": model.name,
            "model_hash": model.hash,
            "model_trained": model.trained,
            "solver": choose_sampler(model.config.objective, settings.solver),
        }
        slots = choose_slots(settings.slots, gpu=self._device.type == "cuda")
        network = load_float(model, self._device)
        tuner = Tuner(model, network, settings, slots=slots, audio_seconds=audio_seconds, layout=video.format.layout)
        self._runner, tuned = tuner.choose()
        self._columns |= {"engine": self._runner.engine, "engine_psnr": tuned.psnr, "engine_fps": tuned.fps}
        self._delivery = Deliverer(ledger, video, provenance, columns=self._columns)
        self._fps, self._hold_rim = parse_fps(video.fps), video.hold_rim
        self._ledger, self._attempts = ledger, attempts or NoAttempts()
        self._slots = MotionSlots(self._runner, slots, solver=settings.solver, tolerance=settings.tolerance)
        self._waiting: queue.SimpleQueue[ClipJob] = queue.SimpleQueue()
        self._rendering: dict[int, ClipJob] = {}
        """The clip in each slot that is taken, which has several if it has several faces; only the rendering thread
        uses this.
        """
        self._renderer = ThreadPoolExecutor(1, "render")
        self._handover = Handover(self._device)
        self._finisher = ThreadPoolExecutor(slots + 1, "finish")
        # To bound memory, no more clips may wait for their encoding or upload than are being rendered.
        self._room = threading.BoundedSemaphore(slots + 1)
        self._begun: set[ClipJob] = set()
        """Clips whose attempt has begun and not ended yet."""
        self._closing = False
        self._watchdog = Watchdog(settings.clip_minutes)
        check_fit(self._runner, self._slots, self._columns["solver"], video)

    def process(self, items: Sequence[ClipFeatures | ClipRow | PutOff]) -> Iterator[ClipRow | PutOff]:
        """Yield one status row per item, whatever happens to a clip; results of earlier stages pass through.

        All items are accepted at once, and their rows come in the order in which clips end. Several threads may call
        this at the same time: clips of a later call use the slots that earlier calls leave free.
        """
        jobs = [ClipJob(item) if isinstance(item, ClipFeatures) else item for item in items]
        for job in linked([job for job in jobs if isinstance(job, ClipJob)]):
            self._submit(job)
        ended = (row_of(job.ended) if isinstance(job, ClipJob) else job for job in jobs)
        return (row if isinstance(row, PutOff) else self._columns | row for row in ended if row != PutOff([]))

    def submit(self, item: ClipFeatures) -> Future[ClipRow | PutOff]:
        """Render one clip as soon as a slot is free. The future returns its row and never raises."""
        return self._submit(ClipJob(item))

    def _submit(self, job: ClipJob) -> Future[ClipRow | PutOff]:
        self._waiting.put(job)
        self._renderer.submit(self._render_all)
        return job.ended

    @property
    def begun(self) -> list[ClipJob]:
        """The clips in work. May be called from any thread."""
        return list(self._begun)

    def close(self) -> None:
        """Give up the clips that are not rendered yet, wait for those that are, and remove temporary files."""
        self._closing = True
        self._renderer.shutdown(cancel_futures=True)
        while not self._waiting.empty():  # the rendering thread had not reached them
            stop(self._waiting.get(), interrupted())
        self._handover.close()
        self._finisher.shutdown()
        self._watchdog.close()
        self._delivery.close()

    # --- The rendering thread ----------------------------------------------------------------------------------

    def _render_all(self) -> None:
        """Render until no clip is left. Returns at once if an earlier call has rendered everything."""
        torch.set_num_threads(max(1, int(self._settings.num_cpus)))  # this setting is per thread
        try:
            self._rounds()
        except Exception as error:  # a bug outside of the guarded steps: nobody may wait for a clip for ever
            for job in list(dict.fromkeys(self._rendering.values())):
                stop(job, error)
                self._leave(job)
            while not self._waiting.empty():
                stop(self._waiting.get(), error)

    def _rounds(self) -> None:
        while True:
            while self._slots.free and not self._waiting.empty():
                job = self._waiting.get()
                try:
                    self._take(job)
                except Exception as error:
                    stop(job, error)  # it may be waiting for a slot, and not be in any list yet
                    raise
            if not self._rendering:
                return
            self._round()

    def _take(self, job: ClipJob) -> None:
        """Put a clip into a free slot, unless it has ended already.

        A clip that a worker died with is rendered alone, so that the next death can be attributed to it.
        """
        answer = self._attempts.begin(job.name, alone=not self._begun)
        alone = answer.decision is Decision.TAKE_ALONE
        if alone and self._begun:
            self._wait_for_ends()
            answer = self._attempts.begin(job.name, alone=True)
        if answer.decision is Decision.RETIRE:
            end_process("other clips died here too")
        if answer.decision is Decision.WAIT:
            self._put_off(job)
            return
        if answer.decision is Decision.LEAVE:
            job.guarded(self._quarantine)
            self._go_on(job)
            return
        self._begun.add(job)
        self._watchdog.begin(job.item.clip.clip_id)
        job.worker_attempt = answer.deaths + 1
        if answer.seen:
            job.guarded(self._is_done)
        if job.ended.done() or job.guarded(self._admit) is None:
            self._leave(job)
        if alone:
            self._wait_for_ends()

    def _put_off(self, job: ClipJob) -> None:
        """Let the clips of this unit go first, and after them leave the clip to another worker."""
        if job.waited:
            put_off(job)
        else:
            job.waited = True
            self._waiting.put(job)

    def _quarantine(self, job: ClipJob) -> None:
        raise self._ledger.quarantine(job.item.clip, "render")

    def _wait_for_ends(self) -> None:
        """Render the clips in the slots, and wait for the clips that end in the background."""
        while self._begun:
            if self._rendering:
                self._round()
            else:
                time.sleep(0.05)

    def _is_done(self, job: ClipJob) -> bool:
        """Whether an earlier worker has finished the clip; the job is then ended with its row."""
        if (row := self._ledger.read(job.item.clip.clip_id, job.item.clip.fingerprint)) is not None:
            job.ended.set_result(row)
        return row is not None

    def _admit(self, job: ClipJob) -> int:
        """Encode the portrait of each face, and take a slot for it; returns the number of faces."""
        item, faces = job.item, job.item.faces
        start = job.begun = time.perf_counter()
        job.layout = self._delivery.video_of(job).format.layout
        job.engine = "" if job.layout == self._runner.layout else self._runner.engine_of(job.layout)
        portraits = [self._runner.portrait(face.portrait) for face in faces]
        job.composer = composer_of(item, self._runner, portraits, self._hold_rim)
        job.spend("portrait", start)
        for face, portrait in zip(faces, portraits, strict=True):
            mouth = resting_mouth(face.rest, self._runner.model, self._columns["model_hash"])  # before it has a slot
            slot = self._slots.admit(motion_inputs(face, portrait, start_of(job)), beside=bool(job.faces))
            job.faces[slot] = FaceJob(portrait, MotionResampler(len(face.speech), item.frames, self._fps), mouth)
            self._rendering[slot] = job
        return len(faces)

    def _round(self) -> None:
        """Sample the next window of every clip, and decode it."""
        if self._closing:
            raise interrupted()
        for advance in self._slots.advance():
            job = self._rendering.get(advance.slot)
            if job is None:  # another face of its clip has failed in this round
                continue
            job.add("sample", advance.sampling)
            job.add("decode", advance.waiting)  # for frames of the round before
            decoded = job.guarded(partial(self._decode, advance=advance))
            if not decoded or all(face.ended for face in job.faces.values()):
                self._leave(job)

    def _decode(self, job: ClipJob, advance: Advance) -> bool:
        """Decode frames that a window completes, in full batches until the clip ends; returns whether it goes on."""
        if job.ended.done():  # its encoder has failed
            return False
        if advance.error is not None:
            raise advance.error
        job.check_time(self._settings.clip_minutes)
        assert advance.motion is not None
        add_motion(job, advance.motion, last=advance.last)
        job.faces[advance.slot].take(advance.motion, last=advance.last)
        if not in_step(job.faces):
            return True
        writer = job.writer or self._delivery.open(job)
        start = time.perf_counter()
        for batch in composed(job.composer, decoded_together(job.faces, self._runner, job.layout)):
            encoder, delivery = self._handover.pass_on(batch, writer.write, job.fail)
            job.spend("decode", start + encoder + delivery)
            job.add("encoder_wait", encoder)
            job.add("delivery_wait", delivery)
            start = time.perf_counter()
        return True

    def _leave(self, job: ClipJob) -> None:
        """Called when a clip has no more frames, or has failed: the remaining work continues in the background."""
        for slot in job.faces:
            del self._rendering[slot]
            self._slots.release(slot)
        job.faces, job.latents = {}, None
        self._go_on(job)
        self._columns["engine"] = self._runner.engine  # it changes where memory is short
        self._handover.after(partial(self._finish_soon, job))

    def _go_on(self, job: ClipJob) -> None:
        """Let the next clip of a programme begin."""
        if (following := go_on(job, self._ledger, self._runner.model.config)) is not None:
            self._waiting.put(following)

    # --- Background threads ------------------------------------------------------------------------------------

    def _finish_soon(self, job: ClipJob) -> None:
        self._room.acquire()
        self._finisher.submit(self._finish, job)

    def _finish(self, job: ClipJob) -> None:
        clip = job.item.clip
        try:
            row = None
            if not job.ended.done():
                row = job.guarded(self._delivery.finish)
            elif job.writer is not None:
                job.writer.abandon()
            if job.path is not None:
                job.path.unlink(missing_ok=True)
            self._attempts.end(job.name)
            if row is not None:
                job.ended.set_result(row)
        finally:
            self._watchdog.end(clip.clip_id)
            self._begun.discard(job)
            self._room.release()
