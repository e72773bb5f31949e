"""Convert the authors' weights into a model folder: `python -m jobs.convert float=float.pth output=models/float`."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended, fail
from models import FLOAT, save_model
from models.encoders import load_content_encoder, load_emotion_encoder
from pipeline.common.errors import RefusedError
from pipeline.common.interruptions import held
from pipeline.common.options import option
from pipeline.run.exit_codes import DONE, REFUSED
from pipeline.storage.explained import said_by_us
from pipeline.storage.near_names import missing
from pipeline.storage.targets import MODEL_FILES, check_targets, is_model
from pipeline.storage.uris import absolute, is_local

LICENCE = "CC BY-NC-ND 4.0"
RELEASE = "https://github.com/deepbrainai-research/float"

USAGE = f"""
Convert the released FLOAT checkpoint and its two speech encoders into a model folder that jobs.render can load.

  python -m jobs.convert float=float.pth output=models/float

float.pth comes from the authors' repository, {RELEASE}, whose README links to it.
LICENCE: they released it under {LICENCE}, for non-commercial research. Check the terms there before you use
anything rendered with it. The speech encoders have their own licences.

The two speech encoders are fetched from the Hugging Face hub. On a machine that cannot reach it, copy their folders
there and give content_encoder=FOLDER and emotion_encoder=FOLDER.
Options: --help
{CODES}
"""


@dataclass
class ConvertJob:
    """Configuration of `jobs.convert`."""

    float: str = option("", "The authors' checkpoint, float.pth (a local file).")
    output: str = option("", "Local folder to write the model to.")
    content_encoder: str = option(
        "facebook/wav2vec2-base-960h", "Content encoder: a local folder or a Hugging Face id."
    )
    emotion_encoder: str = option(
        "r-f/wav2vec-english-speech-emotion-recognition", "Emotion encoder: a local folder or a Hugging Face id."
    )
    name: str = option("float", "Name of the model, as it appears in the rows of delivered clips.")
    licence: str = option(f"{LICENCE} (released FLOAT weights)", "Licence of the weights.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(ConvertJob, USAGE, argv)
    for key in ("float", "output"):
        if not getattr(job, key) or not is_local(getattr(job, key)):
            return fail(f"{key}: give a local path, not {getattr(job, key)!r}", REFUSED)
    return ended(lambda: _convert(job), "interrupted")


def _convert(job: ConvertJob) -> int:
    output = absolute(job.output)
    check_targets(output, MODEL_FILES, {"float": job.float}, lambda: is_model(output))
    with _read("float", job.float, "the authors' float.pth, or another file of weights that torch.load reads safely"):
        # weights_only: a pickle from elsewhere must not run code.
        state = torch.load(_checkpoint(job.float), map_location="cpu", weights_only=True)
        model = FLOAT.from_released(state)
    with _read("content_encoder", job.content_encoder, "a wav2vec2 model: a local folder or a Hugging Face id"):
        content = load_content_encoder(job.content_encoder)
    with _read("emotion_encoder", job.emotion_encoder, "a speech emotion model: a local folder or a Hugging Face id"):
        emotion = load_emotion_encoder(job.emotion_encoder)
    with held():
        folder = save_model(output, model, content, emotion, name=job.name, licence=job.licence)
    print(f"wrote {folder.path} ({sum(file.stat().st_size for file in folder.path.rglob('*')) / 1e6:.0f} MB)")
    print(f"model {folder.name}, hash {folder.hash[:12]}")
    print(f"LICENCE of these weights: {folder.licence}. It applies to everything that is rendered with them.")
    print(f"next: python -m jobs.render manifest=... output=... model={folder.path}")
    return DONE


def _checkpoint(place: str) -> str:
    """The path of a file. Raises RefusedError if it is none."""
    path = absolute(place)
    if not os.path.isfile(path):
        what = f"{path} is a folder, not a file: give the path of a file" if os.path.isdir(path) else missing(path)
        raise RefusedError(f"float: {what}")
    return path


@contextmanager
def _read(key: str, place: str, wanted: str) -> Iterator[None]:
    """What torch, safetensors and transformers raise about files that are not ours becomes a refusal of the setting."""
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:
        logging.getLogger(__name__).info("%s", key, exc_info=error)
        said = said_by_us(error)
        hub = f"; without access to the hub, {key}=FOLDER with a copy of it" if key != "float" else ""
        raise RefusedError(f"{key}: {place} could not be loaded{said and f' ({said})'}: give {wanted}{hub}") from error


if __name__ == "__main__":
    raise SystemExit(main())
