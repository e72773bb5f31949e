"""Motion codes of the corpus clips: the true ones, from `latents/`, and those that a model samples for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from models import EMOTIONS, FLOAT
from models.sampling import default_nfe
from pipeline.research.study.clips import StudyError, read_curves, speaker_of, spread
from pipeline.storage.uris import join
from pipeline.training_data.shards import CLIPS, LATENTS, Shards

BATCH = 8
"""Number of clips that are sampled together."""


@dataclass(frozen=True)
class LatentClip:
    """What is known of a clip's first T frames."""

    name: str
    speaker: str
    emotion: int | None
    """Index in `EMOTIONS`."""
    codes: np.ndarray
    """(T,M) codes of the true motion."""
    reference: np.ndarray
    """(D,) r of the first frame."""
    content: np.ndarray
    """(T,content_dim) float16."""
    condition: np.ndarray
    """(7,) w_e: predicted from speech or from the first frame, depending on the model."""
    pose: np.ndarray
    """(T,6)."""
    curves: np.ndarray
    """(T,60)."""


@dataclass(frozen=True)
class Setting:
    """How motion is sampled; the defaults are those of jobs.render."""

    nfe: int = 0
    """0 uses the model's default."""
    audio_scale: float = 2.0
    emotion_scale: float = 1.0

    @property
    def name(self) -> str:
        """Name in a table."""
        return f"nfe {self.nfe or 'default'}, audio {self.audio_scale:g}, emotion {self.emotion_scale:g}"


def read_latents(
    model: FLOAT, encoders: str, data: str, splits: Sequence[str], count: int, frames: int, seed: int = 0
) -> list[LatentClip]:
    """At most `count` clips, spread over their speakers, with at most `frames` of each.

    `encoders` is the hash of what made the latents (`ModelFolder.encoders_hash`). Raises StudyError if there are no
    latents, or they belong to another model.
    """
    try:
        latents = Shards(join(data, LATENTS), splits)
        clips = Shards(join(data, CLIPS), splits)
    except FileNotFoundError as error:
        raise StudyError("split_empty", f"{error}: run jobs.prepare stage=latents with this model") from None
    made_by = latents.metadata.get("encoders_hash")
    if made_by != encoders:
        raise StudyError(
            "latents_of_another_model",
            f"{latents.folder} was made with other encoders than this model's: run jobs.prepare stage=latents with "
            "this model",
        )
    places = {row["clip_id"]: index for index, row in enumerate(clips.rows)}
    basis = model.autoencoder.directions.basis.detach().cpu().numpy()
    wanted = {"speech": "speech_emotion", "image": "image_emotion", "none": None}[model.config.emotion]
    found = []
    for index in spread(latents, count, seed):
        row = latents.rows[index]
        if row["clip_id"] not in places:
            continue
        values = latents.read(index, "motion", "content", "pose", *([wanted] if wanted else []))
        condition = values[wanted] if wanted else np.zeros(len(EMOTIONS), np.float32)
        if condition is None:
            raise StudyError("emotion_missing", f"{latents.folder}: {row['clip_id']} has no {wanted}")
        motion = values["motion"]
        found.append(
            LatentClip(
                row["clip_id"],
                speaker_of(latents, index),
                EMOTIONS.index(row["emotion"]) if row["emotion"] in EMOTIONS else None,
                (motion @ basis)[:frames],
                motion[0],
                values["content"][:frames],
                condition,
                values["pose"][:frames],
                read_curves(clips, places[row["clip_id"]])[:frames],
            )
        )
    if not found:
        raise StudyError("split_empty", f"{data}: none of its latents has a matching clip")
    return found


def shortened(clip: LatentClip, frames: int) -> LatentClip:
    """The clip with only its first frames."""
    cut = {name: getattr(clip, name)[:frames] for name in ("codes", "content", "pose", "curves")}
    return replace(clip, **cut)


def sample_codes(
    model: FLOAT, clips: Sequence[LatentClip], setting: Setting, seed: int = 0, device: str = "cpu"
) -> list[np.ndarray]:
    """Codes (T,M) of motion that is sampled for each clip, in batches; the noise of a clip is that of `seed`."""
    basis = model.autoencoder.directions.basis.detach()
    found: list[np.ndarray] = []
    for part in _batches(clips):
        longest = max(len(clip.codes) for clip in part)

        def padded(name: str, part: Sequence[LatentClip] = part, longest: int = longest) -> torch.Tensor:
            rows = [np.asarray(getattr(clip, name), np.float32) for clip in part]
            rows = [np.pad(row, ((0, longest - len(row)), (0, 0)), mode="edge") for row in rows]
            return torch.from_numpy(np.stack(rows)).to(device)

        motion = model.sample_motion(
            model.project_speech(padded("content")),
            torch.from_numpy(np.stack([clip.reference for clip in part])).to(device),
            torch.from_numpy(np.stack([clip.condition for clip in part])).to(device),
            nfe=setting.nfe or default_nfe(model.config.objective),
            audio_scale=setting.audio_scale,
            emotion_scale=setting.emotion_scale,
            pose=padded("pose") if model.config.pose == "head" else None,
            seeds=[seed] * len(part),
        )
        codes = (motion @ basis).cpu().numpy()
        found += [one[: len(clip.codes)] for one, clip in zip(codes, part, strict=True)]
    return found


def _batches(clips: Sequence[LatentClip]) -> Iterator[Sequence[LatentClip]]:
    for start in range(0, len(clips), BATCH):
        yield clips[start : start + BATCH]
