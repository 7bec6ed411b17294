"""``mytnano train`` on many ranks: ``torchrun --nproc-per-node N -m mytnano train RECIPE``.

Plan, files and words are those of :mod:`mytnano.solo.run`; the chief of the ranks plans, speaks
and writes. A recipe of a fixed size goes this way on one device too, so that what runs on eight is
what ran on one.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mytnano.config import RunConfig
from mytnano.distributed.run import Begun, train
from mytnano.distributed.world import World
from mytnano.errors import UserError
from mytnano.run_files import CHECKPOINTS
from mytnano.runs.lock import folder_lock
from mytnano.solo.memory import check_memory, free_for_each, out_of_memory
from mytnano.solo.plan import (
    CACHE,
    Request,
    SoloPlan,
    check_device,
    found_plan,
    make_plan,
    meeting_device,
)
from mytnano.solo.run import (
    Stop,
    Ways,
    care_of,
    check,
    finished_result,
    introduce,
    labels_of,
    sealed,
)
from mytnano.solo.show import LiveLine, closing_lines
from mytnano.terminal import is_chief, sentences, under_torchrun
from mytnano.training.care import Care
from mytnano.training.text import prepare


def train_together(
    request: Request, ways: Ways, folder: Path, console: Console
) -> dict[str, Any] | None:
    """Make the run, or go on with it, or show it if it is finished; the result, on the chief.

    Raises:
        UserError: on every rank, something to fix, in one sentence; nothing learned is lost.
        KeyboardInterrupt: Ctrl-C or a signal to end; a checkpoint of the last step was written.
    """
    check(request, ways, folder)
    if request.minutes is not None:
        raise UserError("ranks are not trained by the clock: give --tokens or --bytes")
    if not is_chief():
        console = Console(quiet=True, force_interactive=False)
    with contextlib.ExitStack() as stack:
        if is_chief():
            stack.enter_context(folder_lock(folder))
        job = Together(request, ways, folder, console, stack)
        device = meeting_device(request, folder)
        try:
            train(job.begin, folder, device, labels_of(request), job.seal)
        except torch.OutOfMemoryError:
            raise job.out_of_memory() from None
    if is_chief():
        for line in closing_lines(job.result, folder):
            job.say(line)
    return job.result


class Together:
    """One rank's part of a command. ``stack`` keeps the live line and the signals until its end."""

    def __init__(
        self,
        request: Request,
        ways: Ways,
        folder: Path,
        console: Console,
        stack: contextlib.ExitStack,
    ) -> None:
        self.request, self.ways, self.folder, self.console = request, ways, folder, console
        self.stack, self.say = stack, sentences(console)
        self.result: dict[str, Any] | None = None
        self.plan: SoloPlan | None = None
        self.ranks = 1
        self.stop = Stop()

    def begin(self, world: World) -> Begun | None:
        """The run as the chief plans it; None if it is finished."""
        self.ranks = world.size
        plan, self.result = world.from_chief(lambda: self._planned(world))
        self.plan = plan
        if self.result is not None:
            self.say(f"{self.folder} is finished already")
            return None
        config = plan.config
        world.agree(self._too_little_memory(config, world))
        torch.set_num_threads(max(1, plan.threads // world.local_size))
        text = prepare(config.data, self.folder / CACHE)
        # Ctrl-C reaches every rank, and torchrun sends it once more.
        stop = self.stop = self.stack.enter_context(Stop(patient=under_torchrun()))
        introduce(self.request, plan, text, self.say)
        live = self.stack.enter_context(LiveLine(config, text, self.console))

        def care(done: int) -> Care:
            ways = self.ways if world.chief else Ways()  # which opens no recorders
            made = care_of(self.request, ways, self.folder, plan, live, stop)
            made.started(done)
            return made

        return Begun(config, text, care, live.progress)

    def _planned(self, world: World) -> tuple[SoloPlan, dict[str, Any] | None]:
        plan = found_plan(self.request, self.folder)
        result = finished_result(self.folder, plan)
        if result is not None:
            return plan, result
        if any((self.folder / name).exists() for name in CHECKPOINTS):
            raise UserError(
                f"the run in {self.folder} was begun by one process, whose checkpoints ranks do "
                "not read: go on with it without torchrun, or choose another --out"
            )
        if plan is None:
            ranks = world.size, world.local_size
            plan = make_plan(self.request, self.folder, self.say, *ranks)
            check_device(plan.config, self.folder)
        else:
            check_device(plan.config, self.folder)
        prepare(plan.config.data, self.folder / CACHE)  # so that others find it read
        return plan, None

    def _too_little_memory(self, config: RunConfig, world: World) -> str | None:
        """Why this rank has no room for its part: its GPU is used, or the ranks are fewer now."""
        try:
            free = free_for_each(config.train.device, world.local_size)
            check_memory(config, world.size, free, sharded=True, begun=True)
        except UserError as error:
            return str(error)
        return None

    def out_of_memory(self) -> UserError:
        """The sentence for this rank's GPU; what only the chief would say is said here."""
        assert self.plan is not None
        error = out_of_memory(self.plan.config, self.ranks)
        if not is_chief():
            print(f"mytnano: rank {os.environ['RANK']}: {error}", file=sys.stderr)
        return error

    def seal(self, result: dict[str, Any]) -> None:
        """Complete the run folder of a finished run."""
        assert self.plan is not None
        self.stop.sealing()
        self.result = sealed(self.folder, self.plan.config, self.request)
