"""One command at a time in one output folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from mytnano.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""Name of the lock file. It stays in the folder: only a lock held on it means anything."""

OWNER = ".lock-owner"
"""Stands for the lock where the file system has none; removed when the folder is let go."""

WRITING_SECONDS = 10
"""For so long an empty owner file is one whose owner is about to write into it."""

_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process until the block ends; the folder is made if missing.

    The kernel drops the lock with the process, however that dies, so a kill -9 leaves none behind.
    Where there are no such locks (Windows, some network disks), a file with the owner's process id
    and start time stands for it; one whose owner is gone counts for nothing.

    Raises:
        UserError: another process works in this folder (its id is named), or the folder cannot
            be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write in {folder}: {reason}; choose a folder that can be written"
        ) from None
    try:
        if _lock(descriptor, folder):
            _write(descriptor, str(os.getpid()))
            yield
        else:
            with _owner_file(folder):
                yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> bool:
    """Take the kernel's lock; False where there is no such thing."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise _busy(folder, os.read(descriptor, 32).decode(errors="replace")) from None
        return False
    return True


@contextlib.contextmanager
def _owner_file(folder: Path) -> Iterator[None]:
    path = folder / OWNER
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            break
        except FileExistsError:
            if (owner := _owner(path)) is not None:
                raise _busy(folder, owner) from None
            _take_away(path)
    _write(descriptor, json.dumps([os.getpid(), psutil.Process().create_time()]))
    os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _owner(path: Path) -> str | None:
    """The process id in an owner file if that very process still runs; empty if not yet written."""
    try:
        text = path.read_text(encoding="utf-8")
        if not text and abs(time.time() - path.stat().st_mtime) < WRITING_SECONDS:
            return ""
        pid, started = json.loads(text)
        # A process id is used again after a while; its start time tells the two apart.
        alive = abs(psutil.Process(pid).create_time() - started) < 1
    except (OSError, ValueError, TypeError, psutil.Error):
        return None
    return str(pid) if alive else None


def _take_away(path: Path) -> None:
    """Remove a dead owner's file; one that another process has put there meanwhile goes back."""
    aside = path.with_name(f"{path.name}-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, aside)
        if _owner(aside) is None:
            aside.unlink()
        else:
            os.replace(aside, path)


def _write(descriptor: int, text: str) -> None:
    # The text only names the owner in a message: on a full disk the lock holds without it.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, text.encode())


def _busy(folder: Path, pid: str) -> UserError:
    return UserError(
        f"process {pid.strip() or '(unknown)'} is already working in {folder}; "
        "wait for it, stop it, or choose another output folder"
    )
