"""Folders for compiled code, which runs when it is loaded: only this user may write them, and only what this user has
compiled is loaded.

Against whom this helps:

- Other users of the machine can neither write nor enter the folder (0700). A folder of another user, or one that
  others can write, is refused.
- Who could write the folder once, or copied packages into it (an image, a backup, a synchronised disk), cannot seal
  them: a seal is a MAC with a random key. The key is in the folder too, but only this user can read it (0600), and a
  key that belongs to another user is not used.
- A disk that damages files is noticed by the same seal.
- Nothing here helps against root, against programs of the same user, or where folders above this one can be renamed by
  others (such as in a folder that everybody can write and that is not sticky).
"""

import contextlib
import errno
import hashlib
import hmac
import os
import secrets
import shutil
import stat
import struct
import tempfile
import time
from pathlib import Path

SEAL = "seal"
"""File in a sealed folder."""

CONTENT = "content"
"""The part of a sealed folder that is sealed."""

KEY_BYTES = 32
_FULL = (errno.ENOSPC, errno.EDQUOT)
STALE_SECONDS = 6 * 3600.0
LINKING_SECONDS = 600.0
"""A library that is younger may still be written by another process."""


class CacheError(RuntimeError):
    """The folder for compiled code cannot be used; the message says why, and what to change."""


class CacheFullError(CacheError):
    """The disk of the folder is full."""


def private_folder(path: Path, setting: str = "FLOATCAST_CACHE") -> Path:
    """`path` without links, as a folder that only this user can enter; it is made if it does not exist.

    Raises CacheError if it belongs to another user, if others can write it, or if it cannot be made; the message names
    `setting`, the variable that says where it is.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = path.resolve(strict=True)
        found = path.stat()
        if found.st_uid != os.geteuid():
            raise CacheError(
                f"the cache folder {path} belongs to another user, who could replace what is run from it: set "
                f"{setting} to a folder of your own"
            )
        if found.st_mode & 0o022:
            raise CacheError(
                f"other users can write the cache folder {path}, and could replace what is run from it: remove it, or "
                f"run `chmod 700 {path}` if you trust what is in it"
            )
        if found.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        if is_full(error):
            raise full(path) from error
        raise CacheError(
            f"the cache folder {path} cannot be used ({error.strerror or error}): set {setting} to a folder that you "
            "can write"
        ) from error
    return path


def seal(folder: Path, place: Path) -> None:
    """Seal `folder`/content, which will be moved to `place` in a private folder; who changes a file breaks the seal."""
    (folder / SEAL).write_bytes(_mac(folder, place.name, _key(place.parent)))


def is_sealed(folder: Path) -> bool:
    """Whether the content of `folder` is what this user has sealed for this place."""
    try:
        return hmac.compare_digest((folder / SEAL).read_bytes(), _mac(folder, folder.name, _key(folder.parent)))
    except OSError:
        return False


def _mac(folder: Path, name: str, key: bytes) -> bytes:
    """MAC of the name and of all files; raises FileNotFoundError for what is neither a file nor a folder."""
    mac = hmac.new(key, f"{name}\0".encode(), "sha256")
    content = folder / CONTENT
    if content.is_symlink():
        raise FileNotFoundError(content)
    for file in sorted(content.rglob("*")):
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            raise FileNotFoundError(file)
        if file.is_file():
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            mac.update(f"{file.relative_to(content).as_posix()}\0{digest}\0".encode())
    return mac.digest()


def _key(folder: Path) -> bytes:
    """The key of a private folder, which is made if there is none that only this user can read."""
    path = folder / "key"
    if (key := _own_key(path)) is not None:
        return key
    fresh = folder / f"key.{secrets.token_hex(8)}"
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, secrets.token_bytes(KEY_BYTES))
    finally:
        os.close(file)
    try:
        if os.path.lexists(path):
            fresh.replace(path)
        else:
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    if (key := _own_key(path)) is None:
        raise CacheError(f"the key {path} cannot be read: remove it")
    return key


def _own_key(path: Path) -> bytes | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        found = os.fstat(file)
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
        return os.read(file, KEY_BYTES) if ours and found.st_size == KEY_BYTES else None
    finally:
        os.close(file)


def is_full(error: BaseException) -> bool:
    """Whether something failed because a disk is full; compilers say so only in their output."""
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, OSError) and one.errno in _FULL:
            return True
        if "No space left on device" in str(one) or "Disk quota exceeded" in str(one):
            return True
        one = one.__cause__ or one.__context__
    return False


def full(folder: Path) -> CacheFullError:
    """The error for a full disk."""
    return CacheFullError(
        f"the disk of the cache folder {folder} is full: free some space, or set FLOATCAST_CACHE to a folder on "
        "another disk"
    )


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Remove folders of this user that nobody has changed for hours: those of processes that were killed."""
    with contextlib.suppress(OSError):
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                found = path.lstat()
                old = found.st_mtime < time.time() - STALE_SECONDS
                if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and old:
                    shutil.rmtree(path, ignore_errors=True)


def remove_unpacked_packages() -> None:
    """Remove packages that PyTorch unpacked for processes that were killed (older versions of this program let it).

    What a running process has loaded from such a folder stays loaded.
    """
    remove_leftovers(Path(tempfile.gettempdir()), "aotinductor_*")


def keep_inductor_private(cache: Path) -> None:
    """Let `torch.compile` keep its compiled code in a private folder: in $TORCHINDUCTOR_CACHE_DIR, or in `cache`.

    Its default is a folder with a known name among everybody's temporary files. Raises CacheError if others can write
    the folder.
    """
    # Takes seconds, which only those who compile need to spend; it also sets the variable to its default.
    from torch._inductor import codecache
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    setting = "TORCHINDUCTOR_CACHE_DIR"
    given = os.environ.get(setting)
    given = None if given == default_cache_dir() else given
    folder = private_folder(Path(given), setting) if given else private_folder(cache / "inductor")
    os.environ[setting] = str(folder)
    codecache._HEADER_DIR = str(folder / "headers")  # which it would keep at the default place anyway
    codecache._HEADER_LOCK_DIR = str(folder / "headers" / "locks")
    remove_cut_libraries(folder)


def remove_cut_libraries(folder: Path) -> None:
    """Remove shared libraries whose end is missing, which a machine leaves that goes down while it writes them.

    PyTorch would find them in its cache and fail to load them, in every run until somebody removes them.
    """
    for path in folder.rglob("*.so"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - LINKING_SECONDS and _is_cut(path):
                path.unlink()


def _is_cut(library: Path) -> bool:
    """Whether an ELF file of 64 bits is shorter than its header says: the table of sections is at its end."""
    with library.open("rb") as file:
        header = file.read(64)
    if len(header) < 64:
        return True
    if header[:6] != b"\x7fELF\x02\x01":
        return False  # of another kind of machine
    start, size, count = struct.unpack_from("<Q", header, 40)[0], *struct.unpack_from("<HH", header, 58)
    return library.stat().st_size < start + size * count
