"""``mytnano train``: one model of a recipe, trained, kept going, measured, and left in a folder."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mytnano.config import RunConfig
from mytnano.environment import check_precision, environment
from mytnano.errors import UserError, unknown
from mytnano.files import atomic_write_json
from mytnano.run_files import RESULT, SHARED
from mytnano.runs.lock import LOCK, OWNER, folder_lock
from mytnano.runs.store import RunFolder
from mytnano.solo.curves import write_curves
from mytnano.solo.memory import memory_said
from mytnano.solo.plan import (
    CACHE,
    PROMPTS,
    Request,
    SoloPlan,
    check_device,
    check_request,
    found_plan,
    make_plan,
    timed_plan,
)
from mytnano.solo.show import LiveLine, closing_lines, opening_lines, resumption_line
from mytnano.terminal import sentences
from mytnano.text.readers import check_apart
from mytnano.training.care import Care, Recorder
from mytnano.training.loop import train
from mytnano.training.peak import peak
from mytnano.training.recorders import KINDS, LOGS, open_recorder
from mytnano.training.text import Text, prepare

LOG_POINTS = 1000


@dataclass(frozen=True)
class Ways:
    """How a run is carried out: none of it changes a number.

    Attributes:
        log: names in :data:`~mytnano.training.recorders.KINDS`.
        checkpoint_minutes: between two checkpoints.
    """

    log: tuple[str, ...] = ()
    checkpoint_minutes: float = 1.0


def train_one(request: Request, ways: Ways, folder: Path, console: Console) -> dict[str, Any]:
    """Make the run, or go on with it, or show it if it is finished; return its result.

    Raises:
        UserError: something to fix, in one sentence; nothing that was learned is lost.
        KeyboardInterrupt: Ctrl-C or a signal to end; a checkpoint of the last step was written.
    """
    check(request, ways, folder)
    say = sentences(console)
    with folder_lock(folder):
        plan = found_plan(request, folder)
        result = finished_result(folder, plan)
        if result is not None:
            say(f"{folder} is finished already")
        else:
            result = _made(request, ways, folder, plan, console, say)
    for line in closing_lines(result, folder):
        say(line)
    return result


def show_plan(request: Request, folder: Path, console: Console) -> None:
    """Print what :func:`train_one` would train, and how long that takes; leave no file.

    Raises:
        UserError: as of :func:`train_one`.
    """
    check(request, Ways(), folder)
    say = sentences(console)
    with tempfile.TemporaryDirectory() as scratch:
        plan = found_plan(request, folder) if folder.is_dir() else None
        with console.status("reading the text, timing steps"):
            plan = plan or make_plan(request, Path(scratch), say)
            text = prepare(plan.config.data, Path(scratch) / CACHE)
            if plan.expected_seconds is None and not request.whole:
                with memory_said(plan.config):
                    plan = timed_plan(plan, text)
        introduce(request, plan, text, say)
        if request.whole:
            say(f"not timed here: mytnano plan {request.recipe} says how long it takes on GPUs")


def check(request: Request, ways: Ways, folder: Path) -> None:
    """Refuse what can be refused before any text is read, in a sentence (UserError)."""
    check_precision(request.precision)
    check_request(request)
    check_apart(request.data.corpus, folder)
    for name in ways.log:
        if name not in KINDS:
            raise unknown(name, "a logger", KINDS)
    if not 0 < ways.checkpoint_minutes < math.inf:
        raise UserError("--checkpoint-minutes must be above zero, and a finite number")


def finished_result(folder: Path, plan: SoloPlan | None) -> dict[str, Any] | None:
    """The result of a finished run; None if there is none yet.

    Raises:
        UserError: the run was finished, and a file of it is not what it was.
    """
    if plan is None:
        return None
    run = RunFolder(folder, plan.config.hash)
    condition = run.condition()
    if condition.state == "damaged":
        raise UserError(
            f"the finished run in {folder} is damaged ({condition.reason}): move the folder away "
            "to repeat it, or choose another --out"
        )
    if condition.state != "finished":
        return None
    clear(folder)  # after a command that was killed as soon as it had sealed
    return run.result()


def _made(
    request: Request,
    ways: Ways,
    folder: Path,
    plan: SoloPlan | None,
    console: Console,
    say: Callable[[str], None],
) -> dict[str, Any]:
    resumed = plan is not None
    if plan is not None:
        check_device(plan.config, folder)
    else:
        timing = ", timing steps" if request.minutes is not None else ""
        with console.status(f"reading the text{timing}"):
            plan = make_plan(request, folder, say)
    config = plan.config
    torch.set_num_threads(plan.threads)
    text = prepare(config.data, folder / CACHE)
    introduce(request, plan, text, say, resumed)
    with Stop() as stop, memory_said(config):
        with LiveLine(config, text, console) as line:
            care = care_of(request, ways, folder, plan, line, stop, resumed)
            labels = labels_of(request)
            train(config, text, folder, line.progress, labels, care)
        stop.sealing()
        return sealed(folder, config, request)


def introduce(
    request: Request, plan: SoloPlan, text: Text, say: Callable[[str], None], resumed: bool = False
) -> None:
    """Print warnings about the text, then the plan."""
    for note in text.corpus.notes:
        say(f"{text.corpus.name}: {note}")
    for line in opening_lines(request, plan, text, resumed):
        say(line)


def labels_of(request: Request) -> dict[str, Any]:
    """What the result says of a run besides its scores."""
    size = {} if request.whole else {"size": request.size_named}
    return {"rung": request.recipe, "group": "recipe", **size}


def care_of(
    request: Request,
    ways: Ways,
    folder: Path,
    plan: SoloPlan,
    line: LiveLine,
    stop: Stop,
    resumed: bool = False,
) -> Care:
    """How the run is looked after; ``resumed`` says that an earlier command began it."""
    config, recorders = plan.config, list[Recorder]([line])

    def started(done: int) -> None:
        """Only now is it known which checkpoint was good."""
        if done or resumed:
            line.say(resumption_line(plan, done))
        for kind in ways.log:
            name = f"{request.name}-{config.hash}"
            recorders.append(open_recorder(kind, folder, name, config.model_dump(), done, line.say))

    return Care(
        checkpoint_seconds=60 * ways.checkpoint_minutes,
        log_points=LOG_POINTS,
        recorders=recorders,
        prompts=PROMPTS,
        save_at_end=True,
        started=started,
        stopping=lambda: stop.asked,
        trained=stop.trained,
        say=line.say,
    )


def sealed(folder: Path, config: RunConfig, request: Request) -> dict[str, Any]:
    """Complete the result of a run that has been made, draw its curve, and write its manifest.

    Killed before the manifest is there, the same command goes on from the last step's checkpoint.
    """
    run = RunFolder(folder, config.hash)
    write_curves(folder, request.name.replace("-", " "))
    result = completed(run, config, request)
    run.finish(run.files(free=UNSEALED))
    clear(folder)
    return result


UNSEALED = (LOCK, OWNER, LOGS, SHARED, CACHE)
"""What the manifest does not vouch for: locks, what recorders wrote, what goes with the end."""


def clear(folder: Path) -> None:
    """Delete what only an unfinished run needs: checkpoints, and the cache of its text."""
    RunFolder(folder).drop_checkpoints()
    for name in (CACHE, SHARED):
        shutil.rmtree(folder / name, ignore_errors=True)


def completed(run: RunFolder, config: RunConfig, request: Request) -> dict[str, Any]:
    """The result, with what the machine could have done and how long this command took."""
    result = run.result()
    best = peak(config.train.device, config.train.precision)
    per_token = result["flops"] / result["train_tokens"]  # the optimizer's are among them
    used = result["tokens_per_second"] * per_token / result.get("ranks", 1)
    result |= {
        "peak_flops": best.flops,
        "peak_source": best.source,
        "peak_share": used / best.flops if best.flops else None,
        "command_seconds": request.seconds_so_far,
        "environment": environment(config.train.device, config.train.precision),
    }
    atomic_write_json(run.path / RESULT, result)
    return result


class Stop:
    """Ctrl-C, or a polite request to end, becomes a question that the loop asks between two steps.

    A second signal ends the program at once, unless it is ``patient``: torchrun passes on what the
    terminal has sent already. So does the first one while the model is measured: nothing asks then,
    and every step is saved. The last checkpoint is whole in any case.
    """

    def __init__(self, patient: bool = False) -> None:
        self.asked, self.patient = False, patient
        self.finishing = "the step"
        self._before: Mapping[int, Any] = {}

    def __enter__(self) -> Stop:
        with contextlib.suppress(ValueError):  # not in the main thread: nothing to listen to
            self._before = {
                number: signal.signal(number, self._hear)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def trained(self) -> None:
        """Every step has been made: from here on the first signal ends the program."""
        if self.asked and not self.patient:
            raise KeyboardInterrupt
        self.finishing = ""

    def sealing(self) -> None:
        """The model has been measured: its files come first again."""
        self.finishing = "the files"

    def _hear(self, number: int, frame: object) -> None:
        if not self.patient:
            if self.asked or not self.finishing:
                raise KeyboardInterrupt
            with contextlib.suppress(OSError):  # not by print, which a signal may interrupt
                os.write(2, f"\nfinishing {self.finishing}; again to leave at once\n".encode())
        self.asked = True
