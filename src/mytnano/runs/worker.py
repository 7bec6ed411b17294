"""The life of one worker process: import once, then job after job until it is ended.

Output of the job function goes to ``log.txt`` of its run folder, so that warnings of libraries do
not break the display; ``faulthandler`` leaves the stack of a crash there.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from mytnano.children import be_deaf_to_ctrl_c, leave_with_parent
from mytnano.run_files import LOG
from mytnano.runs.jobs import Job, Report, carry_out


@dataclass(frozen=True)
class Broken:
    """The worker cannot work at all: the job function or a job could not be loaded."""

    traceback: str


def main(connection: Connection, work: bytes) -> None:
    """Body of the process: ``work`` is a pickled job function, jobs come in, events go out."""
    leave_with_parent()
    be_deaf_to_ctrl_c()
    _redirect(os.devnull)
    faulthandler.enable()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            # Here the heavy imports happen: unpickling a function imports its module.
            function = pickle.loads(work)

            def logged(job: Job, report: Report) -> None:
                with _output_to(Path(job.folder) / LOG):
                    function(job, report)

            while True:
                connection.send(carry_out(connection.recv(), logged, connection.send))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception:
            connection.send(Broken(traceback.format_exc()))


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send file descriptors 1 and 2 to ``path``, C code included; no file stays if nothing came."""
    _redirect(path)
    try:
        yield
    finally:
        _redirect(os.devnull)
        with contextlib.suppress(OSError):
            if path.stat().st_size == 0:
                path.unlink()


def _redirect(path: Path | str) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
