"""Single requests to S3: s3fs asks with HEAD before it reads, and again with LIST whenever a key does not exist.

Errors are those of s3fs: FileNotFoundError, PermissionError and OSError. Nothing is tried again here beyond what s3fs
does itself (`pipeline.storage.objects.retried`).
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsspec import asyn

CHUNK = 2**20

CONNECT_SECONDS = 10.0
"""Time for a connection."""
READ_SECONDS = 30.0
"""Longest time without a byte."""
ATTEMPTS = 4
"""Of botocore for a request: where a busy storage drops a tenth of its requests, hardly any is lost."""
TRIES = 2
"""Of s3fs, which also knows answers that break off; `pipeline.storage.objects.retried` tries again."""
ANSWER_SECONDS = 90.0
"""Time for all of an answer without its contents, however its bytes trickle."""
SLOWEST = 50_000
"""Bytes per second below which contents come too slowly."""
OURS_SECONDS = 3600.0
"""Time for a file whose size is not known: one of ours."""


def client_settings() -> dict[str, Any]:
    """Settings of botocore's client."""
    return {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": READ_SECONDS,
        "retries": {"total_max_attempts": ATTEMPTS},
    }


def contents_seconds(size: int | None) -> float:
    """Time for the contents of an object of so many bytes."""
    return OURS_SECONDS if size is None else ANSWER_SECONDS + size / SLOWEST


def read_object(fs: Any, path: str, check: Callable[[int], object] = lambda size: None) -> tuple[bytes, str]:
    """(contents, ETag) of an object, with one GET.

    `check` is called with its size, before the contents are read if the answer names it, and may refuse it with an
    exception. Raises FileNotFoundError, IsADirectoryError for a bucket, and OSError if the answer ends early.
    """
    return asyn.sync(fs.loop, _read, fs, path, check)


def get_file(fs: Any, path: str, local: Path, size: int | None) -> None:
    """Copy an object, of `size` bytes if that is known, with several connections. Raises FSTimeoutError."""
    asyn.sync(fs.loop, fs._get_file, path, str(local), timeout=contents_seconds(size))


async def _read(fs: Any, path: str, check: Callable[[int], object]) -> tuple[bytes, str]:
    async with asyncio.timeout(ANSWER_SECONDS):
        answer = await fs._call_s3("get_object", fs.kwargs, **_object(fs, path))
    body, size = answer["Body"], answer.get("ContentLength")
    try:
        if size is not None:
            check(size)
        chunks, found = [], 0
        async with asyncio.timeout(contents_seconds(size)):
            while chunk := await body.read(CHUNK):
                chunks.append(chunk)
                found += len(chunk)
                if size is None:
                    check(found)
    finally:
        body.close()
    check(found)
    if size not in (None, found):
        raise OSError(f"only {found} of {size} bytes were read")
    return b"".join(chunks), answer.get("ETag", "")


def head_object(fs: Any, path: str) -> dict[str, Any]:
    """Size (`size`) and `ETag` of an object, with one HEAD. Raises FileNotFoundError, also for a folder."""
    answer = asyn.sync(fs.loop, fs._call_s3, "head_object", fs.kwargs, **_object(fs, path), timeout=ANSWER_SECONDS)
    return {"size": answer["ContentLength"], "ETag": answer.get("ETag", ""), "type": "file"}


def is_folder(fs: Any, path: str) -> bool:
    """Whether there are objects below `path`, with one LIST."""
    bucket, key, _ = fs.split_path(path)
    answer = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{key.rstrip('/')}/", Delimiter="/", MaxKeys=1)
    return bool(answer.get("Contents") or answer.get("CommonPrefixes"))


def first_names(fs: Any, path: str) -> list[str]:
    """Names of the files and folders directly below `path`, with one LIST: at most 1000."""
    bucket, key, _ = fs.split_path(path)
    prefix = f"{key.rstrip('/')}/" if key else ""
    answer = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter="/")
    files = [entry["Key"] for entry in answer.get("Contents", ())]
    folders = [entry["Prefix"].rstrip("/") for entry in answer.get("CommonPrefixes", ())]
    return sorted(filter(None, (name.removeprefix(prefix) for name in files + folders)))


def _object(fs: Any, path: str) -> dict[str, str]:
    bucket, key, version = fs.split_path(path)
    if not key:
        raise IsADirectoryError(f"{path} is a bucket, not a file")
    return {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})
