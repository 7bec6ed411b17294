"""How child processes live: they start undisturbed by Ctrl-C, and none outlives its parent."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

_PR_SET_PDEATHSIG = 1


def leave_with_parent() -> None:
    """Die when the parent dies, even if by kill -9: no orphan goes on training."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    # Everything this child starts (compilers) is in one group, which can be ended at once.
    if hasattr(os, "setsid"):
        os.setsid()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    # Where the kernel does not do it: the parent's end of a pipe closes when it dies.
    def watch() -> None:
        parent.join()
        if hasattr(os, "killpg"):
            os.killpg(os.getpgid(0), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()


def be_deaf_to_ctrl_c() -> None:
    """Leave Ctrl-C to the parent, which ends its children itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent blocks the signal while it starts us, so that none hits the interpreter's start.
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextlib.contextmanager
def ctrl_c_held() -> Iterator[None]:
    """Keep Ctrl-C back while a child starts: it inherits this until it ignores the signal."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    start_quiet_tracker()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_quiet_tracker() -> None:
    """Start multiprocessing's own helper process, which cleans up after workers that are killed.

    It would lift our block of Ctrl-C if the first worker started it; and it would warn of every
    semaphore that it cleans up, which says nothing to anyone.
    """
    warnings = os.environ.get("PYTHONWARNINGS")
    quiet = "ignore::UserWarning:multiprocessing.resource_tracker"
    with environment_of({"PYTHONWARNINGS": f"{warnings},{quiet}" if warnings else quiet}):
        resource_tracker.ensure_running()


@contextlib.contextmanager
def environment_of(values: dict[str, str]) -> Iterator[None]:
    """Set what a child reads once, when it starts or loads a library."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
