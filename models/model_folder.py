"""The model folder: the unit that is converted, trained, deployed and named in every delivered row.

config.json             sizes and variant, name, licence, how it was trained, SHA-256 of every other file
model.safetensors       auto-encoder, transformer, speech projection
content_encoder/        wav2vec2 in Hugging Face layout
emotion_encoder/        speech emotion classifier in Hugging Face layout
face_emotion_encoder/   face emotion classifier in Hugging Face layout; only in models whose emotion is image
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from models.config import FloatConfig
from models.float import FLOAT

if TYPE_CHECKING:  # importing it takes seconds because of transformers
    from models.speech_encoders import ContentEncoder, EmotionEncoder

FORMAT = "floatcast-model/1"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CONTENT_FOLDER = "content_encoder"
EMOTION_FOLDER = "emotion_encoder"
FACE_EMOTION_FOLDER = "face_emotion_encoder"


class ModelFolderError(ValueError):
    """A folder that is not a complete model folder."""


@dataclass(frozen=True)
class ModelFolder:
    """What `config.json` says about a model."""

    path: Path
    name: str
    licence: str
    trained: bool
    config: FloatConfig
    history: tuple[dict[str, Any], ...]
    """How this project trained it, oldest first: stage, steps, data, and the hash of the model that it started from."""
    files: dict[str, str]
    """Weight files, relative to the folder -> SHA-256."""
    hash: str
    """SHA-256 of config.json, and thus of everything in the folder."""

    @classmethod
    def open(cls, path: str | Path) -> "ModelFolder":
        """Read `path`/config.json. Raises ModelFolderError if it is not a model folder or files are missing."""
        path = Path(path)
        try:
            text = (path / CONFIG_FILE).read_bytes()
        except OSError as error:
            why = "it is a file, not a folder" if path.is_file() else f"it has no readable {CONFIG_FILE}"
            raise ModelFolderError(
                f"{path} is not a model folder: {why if path.exists() else 'it does not exist'}; give a folder that "
                "jobs.convert or jobs.train has written"
            ) from error
        try:
            values = json.loads(text)
            if values["format"] != FORMAT:
                raise ModelFolderError(f"{path} has format {values['format']!r}, but this version reads {FORMAT!r}")
            folder = cls(
                path=path,
                name=values["name"],
                licence=values["licence"],
                trained=values["trained"],
                config=FloatConfig.from_dict(values["config"]),
                history=tuple(values.get("history", ())),
                files=values["files"],
                hash=hashlib.sha256(text).hexdigest(),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ModelFolderError):
                raise
            raise ModelFolderError(f"{path / CONFIG_FILE} is not a valid model configuration: {error!r}") from None
        missing = [name for name in folder.files if not (path / name).is_file()]
        if missing:
            raise ModelFolderError(
                f"{path} is incomplete; these files are missing: {', '.join(missing)}; copy or convert the model again"
            )
        return folder

    def verify(self) -> None:
        """Compare every weight file with its SHA-256. Raises ModelFolderError naming the first that differs."""
        for name, expected in self.files.items():
            if _sha256(self.path / name) != expected:
                raise ModelFolderError(
                    f"{self.path / name} is damaged: its SHA-256 differs from the one in config.json"
                )

    def encoders_hash(self) -> str:
        """SHA-256 of what turns videos into motion latents and speech into features.

        These are the auto-encoder's encoder with its motion directions, and the speech encoders. Training the
        transformer or only the decoder does not change them.
        """
        digest = hashlib.sha256()
        with safe_open(self.path / WEIGHTS_FILE, "pt") as file:
            for name in sorted(file.keys()):
                if name.startswith("autoencoder.") and not name.startswith("autoencoder.decoder."):
                    digest.update(name.encode() + file.get_tensor(name).numpy().tobytes())
        for name, sha256 in sorted(self.files.items()):
            if name != WEIGHTS_FILE:
                digest.update(f"{name} {sha256}".encode())
        return digest.hexdigest()


def load_float(folder: ModelFolder, device: str | torch.device = "cpu") -> FLOAT:
    """The whole model on `device`, in eval mode."""
    with torch.device("meta"):
        model = FLOAT(folder.config)
    model.load_state_dict(load_file(folder.path / WEIGHTS_FILE), assign=True)
    return model.eval().to(device)


def save_model(
    path: str | Path,
    model: FLOAT,
    content: "ContentEncoder",
    emotion: "EmotionEncoder",
    *,
    name: str,
    licence: str,
    trained: bool = True,
    face_emotion: str | Path | None = None,
) -> ModelFolder:
    """Write a model folder; `face_emotion` is a local folder that is copied (`models.face_emotion`)."""
    if content.dim != model.config.content_dim:
        raise ValueError(
            f"the content encoder has {content.dim} channels, but the model expects {model.config.content_dim}"
        )
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    content.save(path / CONTENT_FOLDER)
    emotion.save(path / EMOTION_FOLDER)
    if face_emotion is not None:
        shutil.copytree(face_emotion, path / FACE_EMOTION_FOLDER)
    return _seal(path, model, name=name, licence=licence, trained=trained, history=())


def derive_model(
    path: str | Path,
    parent: ModelFolder,
    model: FLOAT,
    *,
    name: str,
    trained: bool,
    history: Sequence[dict[str, Any]],
    content: "ContentEncoder | None" = None,
    emotion: "EmotionEncoder | None" = None,
    face_emotion: str | Path | None = None,
) -> ModelFolder:
    """Write a model folder with the encoders and the licence of `parent` but other weights; `path` must be new.

    `content`, `emotion` and `face_emotion` replace those of the parent, as for `save_model`.
    """
    path = Path(path)
    path.mkdir(parents=True)
    sources = {part: parent.path / part for part in (CONTENT_FOLDER, EMOTION_FOLDER, FACE_EMOTION_FOLDER)}
    if face_emotion is not None:
        sources[FACE_EMOTION_FOLDER] = Path(face_emotion)
    for part, source in sources.items():
        if source.is_dir():
            shutil.copytree(source, path / part)
    if content is not None:
        content.save(path / CONTENT_FOLDER)
    if emotion is not None:
        emotion.save(path / EMOTION_FOLDER)
    return _seal(path, model, name=name, licence=parent.licence, trained=trained, history=history)


def _seal(
    path: Path, model: FLOAT, *, name: str, licence: str, trained: bool, history: Sequence[dict[str, Any]]
) -> ModelFolder:
    """Add the weights and then config.json, so that a half-written folder does not count as one."""
    if model.config.emotion == "image" and not (path / FACE_EMOTION_FOLDER).is_dir():
        raise ModelFolderError("a model whose emotion is image needs a face emotion classifier in its folder")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path / WEIGHTS_FILE)
    files = sorted(file for file in path.rglob("*") if file.is_file() and file != path / CONFIG_FILE)
    values = {
        "format": FORMAT,
        "name": name,
        "licence": licence,
        "trained": trained,
        "config": model.config.to_dict(),
        "history": list(history),
        "files": {file.relative_to(path).as_posix(): _sha256(file) for file in files},
    }
    (path / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n")
    return ModelFolder.open(path)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
