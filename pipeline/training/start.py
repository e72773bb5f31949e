"""The model that a run starts from: an existing one, unchanged or with changed parts, or an untrained one."""

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from models import FLOAT, FloatConfig, ModelFolder, load_float
from models.config import VARIANTS
from models.learning.grow import grow, larger
from models.model_folder import CONFIG_FILE, ModelFolderError, derive_model, save_model
from pipeline.common.errors import RefusedError
from pipeline.common.options import option
from pipeline.storage.model_cache import POCKET, local_model
from pipeline.storage.objects import put_folder, read_bytes
from pipeline.storage.uris import absolute, join
from pipeline.training.checkpoint import CheckpointError

PRESETS = ("", "pocket", "float")


@dataclass
class VariantSettings:
    """The variants that the paper compares.

    Empty keeps the model's own; another one starts with an untrained transformer.
    """

    conditioning: str = option(
        "", "How conditions enter the transformer: adaln or cross_attention.", choices=("", "adaln", "cross_attention")
    )
    objective: str = option(
        "", "flow, or diffusion that predicts epsilon or x0 (500 steps, DDIM).", choices=("", "flow", "epsilon", "x0")
    )
    emotion: str = option(
        "",
        "Where the emotion comes from: predicted from speech, predicted from the image, or none.",
        choices=("", "speech", "image", "none"),
    )
    pose: str = option(
        "", "Whether the model is conditioned on head poses: none or head.", choices=("", "none", "head")
    )


@dataclass
class StartSettings:
    """What determines the model that a run starts from."""

    model: str = option("", "Model folder to start from, local or s3://, or pocket for the bundled model.")
    preset: str = option("", "Start from an untrained model of these sizes instead.", choices=PRESETS)
    size: int = option(
        0,
        "Side length of the frames, px, for a smaller preset or for a model that grows to twice its side; 0 "
        "keeps the size.",
        least=0,
    )
    content_encoder: str = option(
        "",
        "wav2vec2 folder in Hugging Face layout. A preset needs one; for a model it replaces the model's own encoder.",
    )
    emotion_encoder: str = option("", "The same for the folder of the speech emotion classifier.")
    face_emotion_encoder: str = option("", "For variant.emotion=image: folder of a face emotion classifier.")
    licence: str = option("", "With preset: licence of the resulting weights.")
    variant: VariantSettings = field(default_factory=VariantSettings)


def first_model(settings: StartSettings, output: str, seed: int) -> str:
    """URI of the model folder that a run starts from; a new one is written to the output once.

    `seed` is that of untrained weights. Raises ValueError, or CheckpointError if the output started from another model.
    """
    changes: dict[str, Any] = {name: value for name in VARIANTS if (value := getattr(settings.variant, name))}
    if settings.preset:
        return _start_folder(output, lambda path: _new_model(settings, changes, seed, path))
    model = settings.model if settings.model == POCKET else absolute(settings.model)
    parent = local_model(model)
    if settings.content_encoder:
        from models.encoders import load_content_encoder  # takes seconds because of transformers

        changes["content_dim"] = load_content_encoder(settings.content_encoder).dim
    config = dataclasses.replace(parent.config, **changes)
    while config.image_size < settings.size:
        config = larger(config)
    if settings.size not in (0, config.image_size):
        raise RefusedError(f"size: a model of {parent.config.image_size} px can only grow, each time to twice its side")
    if config == parent.config and not (settings.content_encoder or settings.emotion_encoder):
        return model
    return _start_folder(output, lambda path: _changed_model(settings, parent, config, seed, path))


def _new_model(settings: StartSettings, changes: dict[str, Any], seed: int, path: Path) -> ModelFolder:
    """An untrained model of a preset with the user's speech encoders."""
    from models.encoders import load_content_encoder, load_emotion_encoder

    for key in ("content_encoder", "emotion_encoder"):
        if not getattr(settings, key):
            raise RefusedError(f"{key}: a new model needs one; give a folder in Hugging Face layout")
    content, emotion = load_content_encoder(settings.content_encoder), load_emotion_encoder(settings.emotion_encoder)
    config = FloatConfig.pocket() if settings.preset == "pocket" else FloatConfig()
    config = dataclasses.replace(config.resized(settings.size or config.image_size), content_dim=content.dim, **changes)
    return save_model(
        path,
        _untrained(config, seed),
        content,
        emotion,
        name=f"{settings.preset}-untrained",
        licence=settings.licence or "not stated",
        trained=False,
        face_emotion=settings.face_emotion_encoder or None,
    )


def _changed_model(
    settings: StartSettings, parent: ModelFolder, config: FloatConfig, seed: int, path: Path
) -> ModelFolder:
    """The parent with a larger auto-encoder, other encoders or an untrained transformer of another variant.

    The trained transformer is kept if only the image size grows.
    """
    from models.encoders import load_content_encoder, load_emotion_encoder

    old = load_float(parent)
    autoencoder, sizes = old.autoencoder, parent.config
    while sizes.image_size < config.image_size:
        sizes = larger(sizes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            autoencoder = grow(autoencoder, sizes)
    heard = bool(settings.content_encoder or settings.emotion_encoder)
    keeps = not heard and dataclasses.replace(config, channels=parent.config.channels) == parent.config
    model = _untrained(config, seed)
    if keeps:
        model.load_state_dict(old.state_dict() | {f"autoencoder.{k}": v for k, v in autoencoder.state_dict().items()})
    model.autoencoder = autoencoder
    history = [entry for entry in parent.history if keeps or entry["stage"] == "autoencoder"]
    if parent.trained and not history:
        history = [{"stage": "autoencoder", "parent": parent.hash, "name": parent.name}]
    return derive_model(
        path,
        parent,
        model,
        name=f"{parent.name}-variant",
        trained=parent.trained and keeps,
        history=history,
        content=load_content_encoder(settings.content_encoder) if settings.content_encoder else None,
        emotion=load_emotion_encoder(settings.emotion_encoder) if settings.emotion_encoder else None,
        face_emotion=settings.face_emotion_encoder or None,
    )


def _untrained(config: FloatConfig, seed: int) -> FLOAT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FLOAT(config).eval()


def _start_folder(output: str, make: Callable[[Path], ModelFolder]) -> str:
    """URI of `output`/start, the untrained model that a run starts from, which `make` writes into a new folder.

    It is made again each time, with the same result for the same settings. Raises CheckpointError if there is another
    one, and RefusedError if the settings are not valid.
    """
    uri = join(output, "start")
    with tempfile.TemporaryDirectory(prefix="floatcast-") as scratch:
        try:
            made = make(Path(scratch) / "start")
        except ModelFolderError as error:
            raise RefusedError(str(error)) from error
        known = read_bytes(join(uri, CONFIG_FILE))
        if known is None:
            put_folder(made.path, uri, last=CONFIG_FILE)
        elif known != (made.path / CONFIG_FILE).read_bytes():
            raise CheckpointError(
                f"{uri} does not match the model that these settings start from: give another output="
            )
    return uri
