"""Many jobs on a few worker processes, one or more threads each.

Small models train fastest as one process per core (two threads on one small matrix product lose
more than they gain), and seeds of one design share compiled code when they follow each other in one
process. So a worker keeps to a group while it has jobs, and takes over the tail of another's
group only when it would be idle.

Each worker has a pipe of its own: one that is killed cannot leave a shared queue locked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait

from mytnano.errors import UserError
from mytnano.runs.jobs import (
    Event,
    Failed,
    Finished,
    Job,
    Note,
    Refused,
    Summary,
    Work,
    carry_out,
)
from mytnano.runs.process import WorkerProcess
from mytnano.runs.store import RunFolder
from mytnano.runs.worker import Broken

_ATTEMPTS = 2


def run_jobs(
    groups: Sequence[Sequence[Job]],
    work: Work,
    workers: int,
    threads_per_worker: int,
    on_event: Callable[[Event], None],
) -> Summary:
    """Carry out every job that is not finished yet, and report as it goes.

    Args:
        groups: jobs that share compiled code (all seeds of a rung), in the order to run them.
        work: the job function, importable by name; see :data:`mytnano.runs.jobs.Work`.
        workers: processes; 0 runs the jobs in this process, one after the other.
        threads_per_worker: threads of each process's matrix products; not used with 0 workers.
        on_event: called in this thread with each event.

    Returns:
        What finished and what failed. A worker that dies has its job repeated once; a job that
        raises is failed; the others go on in both cases.

    Raises:
        UserError: a job met something that the user must fix; the other workers are stopped.
        KeyboardInterrupt: Ctrl-C, after the workers are stopped. What was finished stays.
        RuntimeError: the job function cannot be loaded in a worker.
    """
    _check_unique([job for group in groups for job in group])
    summary = Summary()
    notes: set[Note] = set()

    def hear(event: Event) -> None:
        if isinstance(event, Note):
            if event in notes:
                return
            notes.add(event)
        if isinstance(event, (Finished, Failed)):
            summary.add(event)
        on_event(event)

    todo = [[job for job in group if not _reuse(job, hear)] for group in groups]
    queue = JobQueue(todo)
    if workers == 0:
        _run_here(queue, work, hear)
    else:
        _Pool(queue, work, threads_per_worker, hear).run(workers)
    return summary


class JobQueue:
    """Which job a worker does next.

    First the rest of its own group, then the longest group that nobody has begun, then the last job
    of the group with the most left.
    """

    def __init__(self, groups: Sequence[Sequence[Job]]) -> None:
        self._groups = sorted(map(list, groups), key=_seconds, reverse=True)
        self._begun = [False] * len(self._groups)

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    def take(self, own: int | None = None) -> tuple[int, Job] | None:
        """The next job and its group's number, for a worker whose last group was ``own``."""
        if own is not None and self._groups[own]:
            return own, self._groups[own].pop(0)
        left = [number for number, group in enumerate(self._groups) if group]
        for number in left:
            if not self._begun[number]:
                self._begun[number] = True
                return number, self._groups[number].pop(0)
        if not left:
            return None
        number = max(left, key=lambda number: _seconds(self._groups[number]))
        return number, self._groups[number].pop()

    def put_back(self, number: int, job: Job) -> None:
        """Have a job done again, as the next of its group."""
        self._groups[number].insert(0, job)


class _Pool:
    def __init__(
        self, queue: JobQueue, work: Work, threads: int, hear: Callable[[Event], None]
    ) -> None:
        self._queue = queue
        self._work = work
        self._threads = threads
        self._hear = hear
        self._workers: dict[Connection, WorkerProcess] = {}
        self._deaths: dict[str, int] = {}

    def run(self, count: int) -> None:
        try:
            for _ in range(min(count, len(self._queue))):
                self._hire(None)
            while self._workers:
                for connection in wait(list(self._workers)):
                    self._listen(self._workers[connection])
        finally:
            self._stop_all()

    def _hire(self, group: int | None) -> None:
        taken = self._queue.take(group)
        if taken is not None:
            hired = WorkerProcess(self._work)
            # Known before it starts: Ctrl-C in between must find it.
            self._workers[hired.connection] = hired
            hired.start(self._threads)
            hired.give(*taken)

    def _listen(self, speaker: WorkerProcess) -> None:
        try:
            message = speaker.connection.recv()
        except (EOFError, OSError):
            self._bury(speaker)
            return
        if isinstance(message, Refused):
            raise UserError(message.sentence)
        if isinstance(message, Broken):
            raise RuntimeError(f"a worker process cannot do the work:\n{message.traceback}")
        self._hear(message)
        if isinstance(message, (Finished, Failed)):
            self._next(speaker)

    def _next(self, idle: WorkerProcess) -> None:
        taken = self._queue.take(idle.group)
        if taken is None:
            del self._workers[idle.connection]
            idle.stop()
        else:
            idle.give(*taken)

    def _bury(self, dead: WorkerProcess) -> None:
        """Repeat the job of a worker that died, or give it up; another worker takes its place."""
        del self._workers[dead.connection]
        job, group = dead.job, dead.group
        assert job is not None and group is not None
        cause = dead.cause_of_death()
        self._deaths[job.name] = self._deaths.get(job.name, 0) + 1
        if self._deaths[job.name] < _ATTEMPTS:
            self._queue.put_back(group, job)
            self._hear(Note(f"the worker of {job.name} died ({cause}); the run is repeated once"))
        else:
            self._hear(Failed(job, f"{job.name} failed: its worker died twice ({cause})"))
        self._hire(group)

    def _stop_all(self) -> None:
        # All are told before any is waited for.
        for running in self._workers.values():
            running.send_signal("SIGTERM")
        for running in self._workers.values():
            running.stop()
        self._workers.clear()


def _run_here(queue: JobQueue, work: Work, hear: Callable[[Event], None]) -> None:
    group: int | None = None
    while (taken := queue.take(group)) is not None:
        group, job = taken
        outcome = carry_out(job, work, hear)
        if isinstance(outcome, Refused):
            raise UserError(outcome.sentence)
        hear(outcome)


def _reuse(job: Job, hear: Callable[[Event], None]) -> bool:
    folder = RunFolder(job.folder, job.hash)
    if not folder.is_finished():
        return False
    folder.drop_checkpoints()  # of a command that was killed as soon as it had sealed
    hear(Finished(job, folder.result(), 0.0, reused=True))
    return True


def _check_unique(jobs: list[Job]) -> None:
    for what in ("name", "folder"):
        values = [str(getattr(job, what)) for job in jobs]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"two jobs have the {what} {twice[0]}")


def _seconds(group: Sequence[Job]) -> float:
    return sum(job.expected_seconds for job in group)
