"""Files that are either whole or absent: atomic writes, strict JSON, checksums.

A file is written under a temporary name in its own folder, flushed to the disk and renamed over
its final name, which POSIX and Windows do in one step. A process that dies half-way leaves at most
a file called ``.tmp-*``, which nothing reads.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mytnano.errors import UserError

TEMPORARY = ".tmp-"
"""Prefix of the files that are still being written."""

MANIFEST = "manifest.json"
"""The last file of a sealed folder: ``{"files": {name: SHA-256}, "hash": ...}``."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Condition:
    """What a sealed folder is found to be, and for a damaged one what is wrong with it."""

    state: Literal["finished", "unfinished", "damaged"]
    reason: str = ""


def folder_condition(folder: Path, expected_hash: str | None, required: str) -> Condition:
    """Read and check everything that a folder's manifest lists; costs a read of all files.

    Args:
        folder: it need not exist.
        expected_hash: what the manifest must have as its ``hash``; None accepts any.
        required: a file that the manifest must list.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files, found_hash = dict(manifest["files"]), manifest["hash"]
    except (FileNotFoundError, NotADirectoryError):
        return Condition("unfinished")
    except (OSError, ValueError, KeyError, TypeError):
        return Condition("damaged", f"{MANIFEST} is unreadable")
    if expected_hash is not None and found_hash != expected_hash:
        return Condition("damaged", f"{MANIFEST} is of another configuration")
    if required not in files:
        return Condition("damaged", f"{MANIFEST} does not list {required}")
    reason = damage(folder, files)
    return Condition("damaged", reason) if reason else Condition("finished")


def damage(folder: Path, files: Mapping[str, str]) -> str | None:
    """What is wrong with one of the files, name -> SHA-256, that a manifest lists; None if all are
    as they were."""
    for name, expected in files.items():
        try:
            found = sha256_file(folder / name)
        except OSError:
            return f"{name} is missing or unreadable"
        if found != expected:
            return f"{name} does not match its checksum"
    return None


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it becomes ``path`` if the block succeeds, and goes if not.

    For libraries that write a file by name (safetensors, NumPy). The temporary name keeps the
    suffix of ``path``. Missing parent folders are made.

    Raises:
        UserError: the disk is full, or the place cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        raise _write_error(error, temporary, path) or error from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; it becomes ``path`` if the block succeeds, and goes if not.

    ``path`` must be missing or an empty folder.

    Raises:
        UserError: the place cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        with contextlib.suppress(FileNotFoundError):
            path.rmdir()  # Windows renames over no folder, not even an empty one
        os.replace(temporary, path)
    except OSError as error:
        raise _write_error(error, temporary, path) or error from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` as the whole of ``path``, or leave ``path`` as it was.

    Raises:
        UserError: the disk is full, or the place cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: Path, text: str) -> None:
    """As :func:`atomic_write_bytes`, in UTF-8 with the line ends as given."""
    atomic_write_bytes(path, text.encode())


def atomic_write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """As :func:`atomic_write_bytes`, as one strict JSON value; see :func:`json_text`."""
    atomic_write_text(path, json_text(value, indent=indent) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinities, which JSON does not have, become ``null``.

    Keys keep their order; text outside ASCII is written as it is.
    """
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def sha256_bytes(data: bytes) -> str:
    """The SHA-256 of some bytes, in 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, in 64 hex digits; memory stays flat.

    Raises:
        OSError: the file is missing or unreadable.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def disk_full(error: BaseException, path: Path) -> UserError | None:
    """The sentence for a disk that ran full while writing ``path``; None for any other error."""
    # Rust libraries (safetensors, tokenizers) and SQLite say it only in their message.
    words = (f"os error {errno.ENOSPC}", "disk is full")
    if getattr(error, "errno", None) in _FULL or any(word in str(error) for word in words):
        return UserError(f"no space left on the disk for {path}; free some, then run it again")
    return None


def _write_error(error: Exception, temporary: Path, path: Path) -> UserError | None:
    if full := disk_full(error, path):
        return full
    # An OSError about another file comes from the caller's own code, and is not ours to explain.
    places = {None, temporary, *path.parents}
    place = getattr(error, "filename", None)
    if isinstance(error, OSError) and (place if place is None else Path(place)) in places:
        reason = error.strerror or error
        return UserError(f"cannot write {path}: {reason}; choose a folder that can be written")
    return None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
