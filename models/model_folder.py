"""The model folder: the unit that is converted, trained, deployed and named in every delivered row.

config.json             sizes and variant, name, licence, how it was trained, SHA-256 of every other file
model.safetensors       auto-encoder, transformer, speech projection
content_encoder/        wav2vec2 in Hugging Face layout
emotion_encoder/        speech emotion classifier in Hugging Face layout
face_emotion_encoder/   face emotion classifier in Hugging Face layout; only in models whose emotion is image
"""

import hashlib
import json
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.config import FloatConfig

if TYPE_CHECKING:  # PyTorch and transformers take seconds to import, and processes that plan only read config.json
    import torch

    from models.float import FLOAT
    from models.speech_encoders import ContentEncoder, EmotionEncoder

FORMAT = "floatcast-model/1"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CONTENT_FOLDER = "content_encoder"
EMOTION_FOLDER = "emotion_encoder"
FACE_EMOTION_FOLDER = "face_emotion_encoder"
ENCODERS = (CONTENT_FOLDER, EMOTION_FOLDER, FACE_EMOTION_FOLDER)

MAX_CONFIG_BYTES = 4 << 20
MAX_FILES = 1_000
MAX_LAYERS = 256
"""Layers of an encoder; the largest wav2vec2 has 48."""

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".pt2", ".ckpt", ".h5", ".msgpack", ".pkl", ".model", ".onnx", ".npz")
READ_BESIDE = (*WEIGHTS, ".json", ".py")
"""Endings of files in an encoder's folder that loading it may read: unlisted, they are refused."""

LAYERS = re.compile(r"(?:layers|blocks|depths?)$")
SHA256 = re.compile(r"[0-9a-f]{64}")


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
        """Read `path`/config.json, and compare its list of files with the folder; no weights are read.

        Raises ModelFolderError if it is not a model folder, if a size is outside its limits (`models.config.LIMITS`),
        if files are missing, or if one that would be read is not in the list.
        """
        path = Path(path)
        folder = cls.parse(path, _read(path, path / CONFIG_FILE))
        folder._check_list()
        for part in ENCODERS:
            folder._check_encoder(part)
        return folder

    @classmethod
    def parse(cls, path: Path, text: bytes) -> "ModelFolder":
        """What the contents of `path`/config.json say; the folder itself is not looked at. Raises ModelFolderError."""
        try:
            values = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError("it is not a JSON object")
            if values["format"] != FORMAT:
                raise ModelFolderError(
                    f"{path} has the format {_short(values['format'])}, but this version reads {FORMAT!r}"
                )
            return cls(
                path=path,
                name=_text("name", values["name"], 200),
                licence=_text("licence", values["licence"], 10_000),
                trained=_checked("trained", values["trained"], bool, "true or false"),
                config=FloatConfig.from_dict(_checked("config", values["config"], dict, "an object")),
                history=tuple(_checked("history", values.get("history", []), list, "a list")),
                files=_listed(values["files"]),
                hash=hashlib.sha256(text).hexdigest(),
            )
        except ModelFolderError:
            raise
        except KeyError as error:
            raise ModelFolderError(f"{path / CONFIG_FILE} is not a valid model configuration: no {error}") from None
        except RecursionError:
            raise ModelFolderError(
                f"{path / CONFIG_FILE} is not a valid model configuration: its values are nested too deeply"
            ) from None
        except (TypeError, ValueError) as error:
            raise ModelFolderError(f"{path / CONFIG_FILE} is not a valid model configuration: {error}") from None

    def _check_list(self) -> None:
        """Raise ModelFolderError unless the list has every file that is read, and every file of the list exists."""
        missing = [name for name in self.files if not (self.path / name).is_file()]
        if missing:
            raise ModelFolderError(
                f"{self.path} is incomplete; these files are missing: {_names(missing)}; copy or convert the model "
                "again"
            )
        wanted = [WEIGHTS_FILE, f"{CONTENT_FOLDER}/config.json"]
        if self.config.emotion == "speech":
            wanted.append(f"{EMOTION_FOLDER}/config.json")
        if self.config.emotion == "image":
            wanted += [f"{FACE_EMOTION_FOLDER}/{name}" for name in ("config.json", "preprocessor_config.json")]
        unlisted = [name for name in wanted if name not in self.files]
        found = [(self.path, WEIGHTS), *((self.path / part, READ_BESIDE) for part in ENCODERS)]
        for folder, endings in found:
            for file in sorted(folder.glob("*")):
                name = file.relative_to(self.path).as_posix()
                if file.suffix.lower() in endings and name not in (*self.files, CONFIG_FILE, *unlisted):
                    unlisted.append(name)
        if unlisted:
            raise ModelFolderError(
                f"{self.path / CONFIG_FILE} has no SHA-256 for files that would be read: {_names(unlisted)}; remove "
                "what does not belong to the model, or convert it again"
            )

    def _check_encoder(self, part: str) -> None:
        """Raise ModelFolderError if an encoder's own configuration is no JSON object or asks for too many layers."""
        file = self.path / part / "config.json"
        if f"{part}/config.json" not in self.files:
            return
        try:
            values = json.loads(_read(self.path, file))
        except (ValueError, RecursionError) as error:
            if isinstance(error, ModelFolderError):
                raise
            raise ModelFolderError(f"{file} is not JSON: copy or convert the model again") from None
        if not isinstance(values, dict):
            raise ModelFolderError(f"{file} is not a JSON object: copy or convert the model again")
        for name, number in _numbers(values):
            if LAYERS.search(name) and number > MAX_LAYERS:
                raise ModelFolderError(f"{file}: {_short(name)} is larger than {MAX_LAYERS}, so it is no encoder")
        if not any(name.startswith(f"{part}/") and name.endswith(WEIGHTS) for name in self.files):
            raise ModelFolderError(f"{self.path / CONFIG_FILE} lists no weights in {part}; convert the model again")

    def verify(self) -> None:
        """Compare every file of the list with its SHA-256. Raises ModelFolderError naming the first that differs."""
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
        from safetensors import safe_open

        digest = hashlib.sha256()
        with safe_open(self.path / WEIGHTS_FILE, "pt") as file:
            for name in sorted(file.keys()):
                if name.startswith("autoencoder.") and not name.startswith("autoencoder.decoder."):
                    digest.update(name.encode() + file.get_tensor(name).numpy().tobytes())
        for name, sha256 in sorted(self.files.items()):
            if name != WEIGHTS_FILE:
                digest.update(f"{name} {sha256}".encode())
        return digest.hexdigest()


def load_float(folder: ModelFolder, device: "str | torch.device" = "cpu") -> "FLOAT":
    """The whole model on `device`, in eval mode. Raises ModelFolderError if its weights are those of other sizes."""
    import torch
    from safetensors.torch import load_file

    from models.float import FLOAT

    with torch.device("meta"):
        model = FLOAT(folder.config)
    state = load_file(folder.path / WEIGHTS_FILE)
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    other = [name for name in {**wanted, **state} if name not in state or state[name].shape != wanted.get(name)]
    if other:
        raise ModelFolderError(
            f"{folder.path / WEIGHTS_FILE} does not fit the sizes in {CONFIG_FILE}: {len(other)} tensors are missing, "
            f"unknown or of another shape ({_names(other)}); copy or convert the model again"
        )
    model.load_state_dict(state, assign=True)
    return model.eval().to(device)


def save_model(
    path: str | Path,
    model: "FLOAT",
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
    model: "FLOAT",
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
    path: Path, model: "FLOAT", *, name: str, licence: str, trained: bool, history: Sequence[dict[str, Any]]
) -> ModelFolder:
    """Add the weights and then config.json, so that a half-written folder does not count as one."""
    from safetensors.torch import save_file

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
    for file in files:  # some libraries write files that only their owner can read; workers may be other users
        file.chmod(stat.S_IMODE((path / CONFIG_FILE).stat().st_mode))
    return ModelFolder.open(path)


def _read(folder: Path, file: Path) -> bytes:
    """A small JSON file of a model folder."""
    name = file.relative_to(folder)
    try:
        if not file.is_file():  # a pipe would be waited for
            raise FileNotFoundError
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ModelFolderError(
                f"{file} is no configuration: it has more than {MAX_CONFIG_BYTES >> 20} MiB; copy the model again"
            )
        return file.read_bytes()
    except OSError as error:
        why = "it is a file, not a folder" if folder.is_file() else f"it has no readable {name}"
        raise ModelFolderError(
            f"{folder} is not a model folder: {why if folder.exists() else 'it does not exist'}; give a folder that "
            "jobs.convert or jobs.train has written"
        ) from error


def _numbers(values: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number in nested JSON, with the name of the field that it is in."""
    if isinstance(values, dict):
        for inner, value in values.items():
            yield from _numbers(value, inner)
    elif isinstance(values, list):
        for value in values:
            yield from _numbers(value, name)
    elif isinstance(values, int | float):
        yield name, values


def _checked(name: str, value: Any, kind: type, words: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {words}")
    return value


def _text(name: str, value: Any, longest: int) -> str:
    text: str = _checked(name, value, str, "a text")
    if not text or len(text) > longest or not text.replace("\n", "").isprintable():
        raise ValueError(f"{name} must be a text of 1 to {longest} characters that can be printed")
    return text


def _listed(files: Any) -> dict[str, str]:
    """The checked list of files."""
    if len(_checked("files", files, dict, "an object of names and SHA-256")) > MAX_FILES:
        raise ValueError(f"files has {len(files)} names, but a model has at most {MAX_FILES}")
    for name, sha256 in files.items():
        parts = name.split("/")
        if not name.isprintable() or len(name) > 300 or "\\" in name or {"", ".", ".."} & set(parts):
            raise ValueError(f"files: {_short(name)} is not a name inside the folder")
        if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
            raise ValueError(f"files: the value of {_short(name)} is not a SHA-256 (64 hexadecimal digits)")
    return dict(files)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _names(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(name if name.isprintable() and len(name) <= 300 else _short(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
