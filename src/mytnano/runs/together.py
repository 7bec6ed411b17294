"""Jobs that one function carries out together in this process, each in a run folder of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mytnano.errors import UserError
from mytnano.files import disk_full
from mytnano.runs.jobs import Event, Failed, Finished, Job, Note, Refused, Report, Started, failure
from mytnano.runs.store import RunFolder

Together = Callable[[Sequence[Job], Sequence[Report], Callable[[Job], None]], None]
"""A function for several jobs and their reports: writes each job's files into ``job.folder`` and
calls the third argument with a job as soon as its files are whole."""


def carry_out_together(
    jobs: Sequence[Job], work: Together, send: Callable[[Event], None]
) -> list[Finished | Failed]:
    """Do several jobs at once: ready their folders, work, seal each folder when it is whole.

    None of the jobs may be finished. If the function raises, the jobs that it had not finished are
    failed, with the traceback in each one's ``error.txt``; those that it had finished stay.

    Raises:
        UserError: something that the user must fix, a full disk among it.
    """
    begun = time.monotonic()
    done: dict[str, Finished | Failed] = {}
    for job in jobs:
        if note := RunFolder(job.folder, job.hash).start():
            send(Note(note))
        send(Started(job))

    def finished(job: Job) -> None:
        result = RunFolder(job.folder, job.hash).finish()
        done[job.name] = event = Finished(job, result, time.monotonic() - begun)
        send(event)

    try:
        work(jobs, [Report(job, send) for job in jobs], finished)
        unfinished: Exception | SystemExit | None = None
        if len(done) < len(jobs):
            unfinished = RuntimeError("the job function left it out")
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if full := disk_full(error, jobs[0].folder):
            raise full from None
        unfinished = error
    for job in jobs:
        if job.name not in done and unfinished is not None:
            outcome = failure(job, unfinished)
            if isinstance(outcome, Refused):
                raise UserError(outcome.sentence)
            done[job.name] = outcome
            send(outcome)
    return [done[job.name] for job in jobs]
