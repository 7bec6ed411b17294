"""The parent's side of one worker process: how it is started, spoken to and ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import types
from collections.abc import Iterator

from mytnano.children import ctrl_c_held, environment_of
from mytnano.runs import worker
from mytnano.runs.jobs import Job, Work

_PATIENCE = 2.0  # seconds between asking a worker to end and ending it
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkerProcess:
    """One worker process and what it is doing.

    Attributes:
        connection: events come from here; its end means that the process is gone.
        job: the job given last, and ``group`` its number in the queue.
    """

    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, self._theirs = context.Pipe()
        self.group: int | None = None
        self.job: Job | None = None
        self._work = work
        self._process = context.Process(
            target=worker.main, args=(self._theirs, pickle.dumps(work)), name="mytnano-worker"
        )

    def start(self, threads: int) -> None:
        """Start the process with so many threads for its matrix products."""
        variables = dict.fromkeys(_THREAD_VARIABLES, str(threads))
        with environment_of(variables), ctrl_c_held(), _without_main_module(self._work):
            self._process.start()
        # Only the worker may hold its end, or its death would not close the pipe.
        self._theirs.close()

    def give(self, group: int, job: Job) -> None:
        """Hand over a job. A worker that is dead is noticed when we listen to it."""
        self.group, self.job = group, job
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(job)

    def stop(self) -> None:
        """End the process, at work or not; gently first.

        An idle one is not asked to leave by itself: taking down torch's compiler takes seconds, and
        there is nothing left to save.
        """
        for name in ("SIGTERM", "SIGKILL"):
            if self._process.is_alive():
                self.send_signal(name)
                self._process.join(_PATIENCE)
        self.connection.close()

    def send_signal(self, name: str) -> None:
        """Signal the process and whatever it has started."""
        if not self._process.is_alive():
            return
        assert self._process.pid is not None
        try:
            os.killpg(self._process.pid, getattr(signal, name))
        except (AttributeError, OSError):  # Windows, or too young to have a group of its own
            self._process.kill() if name == "SIGKILL" else self._process.terminate()

    def cause_of_death(self) -> str:
        """Why a process whose pipe has closed is gone, in a few words."""
        self._process.join(_PATIENCE)
        self.stop()
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
        return f"{name}, perhaps too little memory" if name == "SIGKILL" else name


@contextlib.contextmanager
def _without_main_module(work: Work) -> Iterator[None]:
    """Spare the child the parent's main script, which ``spawn`` would import again.

    So the command line is loaded once, and a user's script of five lines needs no
    ``if __name__ == "__main__"``. A job function of the script itself does need its module.
    """
    if getattr(work, "__module__", None) == "__main__":
        yield
        return
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
