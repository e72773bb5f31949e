"""Errors of a storage: which ones they are, and what they mean in words."""

import errno

from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError

from pipeline.common.errors import StorageError

MISNAMED = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""Errors of a storage that works: the place does not exist, so a name was mistyped."""

CLIENTS = ("botocore", "aiobotocore", "aiohttp", "fsspec", "s3fs", "gcsfs", "adlfs", "azure", "google")
"""Libraries whose exceptions are storage errors."""

LONGEST = 160
"""Characters of a library's own words that a message quotes."""

CODES = {
    "InvalidAccessKeyId": "the storage does not know the access key: check the credentials in the environment",
    "SignatureDoesNotMatch": "the storage refuses the secret key: check the credentials in the environment",
    "ExpiredToken": "the credentials have expired: get new ones",
    "NoSuchBucket": "there is no such bucket: check its name",
    "SlowDown": "the storage asks for fewer requests: run the same command again later",
}
"""Error codes of S3 in words."""

NUMBERS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EROFS: "the disk is read-only: choose another folder or mount it for writing",
    errno.EIO: "the disk reports an error: check it",
    errno.ENAMETOOLONG: "the name is too long for the disk: choose a shorter one",
    errno.ELOOP: "it is a link to itself: give the file that is meant",
}
"""Numbers of errors of a disk in words."""


def is_trouble(error: BaseException) -> bool:
    """Whether the storage could not be reached or answered with an error; each client has its own exceptions."""
    if isinstance(error, StorageError):
        return True
    kinds = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or not kinds.isdisjoint(CLIENTS)


def names_nothing(error: BaseException) -> bool:
    """Whether the disk says that a file of this name cannot be opened, now or later: it is too long, or a loop."""
    return isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP)


def raise_if_trouble(error: Exception, what: str) -> None:
    """Raise StorageError with `what` at its start if `error` comes from the storage and is not a mistyped name."""
    if is_trouble(error) and not isinstance(error, MISNAMED):
        raise StorageError(f"{what}: {reason(error)}") from error


def is_timeout(error: BaseException) -> bool:
    """Whether the storage did not answer in time; each client has its own exceptions."""
    known = (error, error.__cause__)
    return any("Timeout" in kind.__name__ for one in known if one is not None for kind in type(one).__mro__)


def reason(error: BaseException) -> str:
    """Why the storage failed, and what to do, in words: no names of exceptions, no numbers."""
    if isinstance(error, StorageError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "it does not exist: check its name"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not a file: give the path of a file"
    if isinstance(error, NotADirectoryError):
        return "a part of its path is a file, not a folder: check the path"
    if isinstance(error, FileExistsError):
        return "it exists already: choose another name"
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "there are no credentials for the storage: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
    code = _code(error)
    if code in CODES:
        return CODES[code]
    if isinstance(error, PermissionError):
        return "access is denied: check its permissions, or the credentials in the environment"
    if isinstance(error, BrokenPipeError):  # of a storage, or of `| head`
        return "the other side of a connection or of a pipe was closed: run the same command again"
    kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
    if is_timeout(error):
        return "the storage did not answer in time: run the same command again, and check the network"
    if "Connect" in kinds or "EndpointConnection" in kinds or "ClientConnector" in kinds:
        return "the storage could not be reached: check the network and AWS_ENDPOINT_URL"
    if isinstance(error, OSError) and error.errno in NUMBERS:
        return NUMBERS[error.errno]
    if code:  # S3's own names of errors mean nothing to a person, but to who runs the storage
        return f"the storage answered {code!r}: run the same command again, and tell who runs the storage"
    said = " ".join(str((isinstance(error, OSError) and error.strerror) or error).split())
    said = said if len(said) <= LONGEST else f"{said[:LONGEST]}..."
    return f"the storage answered with an error ({said or 'without a reason'}): run the same command again"


def _code(error: BaseException) -> str:
    """The error code of S3, where s3fs keeps it; empty if there is none."""
    for one in (error, error.__cause__):
        if isinstance(one, ClientError):
            return str(one.response.get("Error", {}).get("Code", ""))
    return ""
