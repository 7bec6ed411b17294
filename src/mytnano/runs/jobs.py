"""What is run and what is heard of it: jobs, events, and the one way to carry a job out."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mytnano.errors import UserError, brief
from mytnano.files import atomic_write_text, disk_full
from mytnano.run_files import ERROR
from mytnano.runs.store import RunFolder
from mytnano.training.care import Progress


@dataclass(frozen=True)
class Job:
    """One run to be made.

    Attributes:
        name: unique among the jobs of a command, such as ``swiglu-s1``.
        rung: the design (a rung, an arm); shown in the progress.
        seed: shown in the progress.
        config: whatever the job function needs; picklable.
        folder: the run folder.
        hash: hash of all that decides the result; a finished folder of this hash is not run again.
        expected_seconds: estimate, for the order and the time left; only ratios matter much.
    """

    name: str
    rung: str
    seed: int
    config: Any
    folder: Path
    hash: str
    expected_seconds: float = 1.0


@dataclass(frozen=True)
class Started:
    """A job has begun."""

    job: Job


@dataclass(frozen=True)
class Told:
    """A running job has told where it is."""

    job: Job
    progress: Progress


@dataclass(frozen=True)
class Finished:
    """A run is finished; ``reused`` if it already was before this command."""

    job: Job
    result: dict[str, Any]
    seconds: float
    reused: bool = False


@dataclass(frozen=True)
class Failed:
    """A run failed for good; the sentence says how and where to read more."""

    job: Job
    sentence: str


@dataclass(frozen=True)
class Refused:
    """A job met something that the user must fix; it ends the command."""

    sentence: str


@dataclass(frozen=True)
class Note:
    """A sentence to print once."""

    sentence: str


Event = Started | Told | Finished | Failed | Note
"""What the caller of the runner hears."""


class Report:
    """How a job function tells of its progress."""

    def __init__(self, job: Job, send: Callable[[Event], None]) -> None:
        self._job = job
        self._send = send

    def progress(self, progress: Progress) -> None:
        """Tell where the run is; the training loop's ``on_progress``."""
        self._send(Told(self._job, progress))

    def note(self, sentence: str) -> None:
        """Have a sentence printed; the same one from many jobs is printed once."""
        self._send(Note(sentence))


Work = Callable[[Job, Report], None]
"""A job function: writes its files into ``job.folder``, ``result.json`` among them.

The folder is there and empty; the manifest is written for it afterwards.
"""


def carry_out(job: Job, work: Work, send: Callable[[Event], None]) -> Finished | Failed | Refused:
    """Do one job in this process: ready the folder, work, seal the folder.

    A :class:`UserError` or a full disk is a refusal; any other exception is a failure, whose
    traceback goes into ``error.txt`` of the run folder.
    """
    folder = RunFolder(job.folder, job.hash)
    started = time.monotonic()
    send(Started(job))
    try:
        if folder.is_finished():
            folder.drop_checkpoints()  # of a command that was killed as soon as it had sealed
            return Finished(job, folder.result(), 0.0, reused=True)
        if note := folder.start():
            send(Note(note))
        work(job, Report(job, send))
        return Finished(job, folder.finish(), time.monotonic() - started)
    except UserError as error:
        return Refused(str(error))
    except (Exception, SystemExit) as error:
        if full := disk_full(error, job.folder):
            return Refused(str(full))
        return failure(job, error)


def failure(job: Job, error: BaseException) -> Failed | Refused:
    """What an exception makes of a job; its traceback goes into ``error.txt`` of the run folder."""
    path = Path(job.folder) / ERROR
    text = "".join(traceback.format_exception(error))
    try:
        atomic_write_text(path, text)
    except UserError as unwritable:
        return Refused(str(unwritable))
    return Failed(job, f"{job.name} failed ({brief(error)}); the traceback is in {path}")


@dataclass
class Summary:
    """What became of the jobs of one command."""

    finished: list[Finished] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Job name -> content of ``result.json``, of every finished run, reused ones included."""
        return {event.job.name: event.result for event in self.finished}

    @property
    def exit_code(self) -> int:
        """0, or 1 if a run failed."""
        return 1 if self.failed else 0

    def add(self, event: Finished | Failed) -> None:
        """Count one outcome."""
        if isinstance(event, Finished):
            self.finished.append(event)
        else:
            self.failed.append(event)
