"""``mytnano train`` on many ranks: ``torchrun --nproc-per-node N -m mytnano train RECIPE``.

Plan, files and words are those of :mod:`mytnano.solo.run`; the chief of the ranks plans, speaks
and writes. A recipe of a fixed size goes this way on one device too, so that what runs on eight is
what ran on one.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mytnano.distributed.checkpoint import last_step
from mytnano.distributed.run import Begun, train
from mytnano.distributed.world import World, is_chief, is_launched
from mytnano.environment import choose_device
from mytnano.errors import UserError
from mytnano.runs.lock import folder_lock
from mytnano.solo.plan import (
    CACHE,
    PROMPTS,
    Request,
    SoloPlan,
    found_plan,
    make_plan,
)
from mytnano.solo.run import Stop, Ways, care_of, check, finished_result, sealed
from mytnano.solo.show import LiveLine, closing_lines, opening_lines
from mytnano.terminal import sentences
from mytnano.training.care import Care
from mytnano.training.text import prepare


def train_together(
    request: Request, ways: Ways, folder: Path, console: Console
) -> dict[str, Any] | None:
    """Make the run, or go on with it, or show it if it is finished; the result, on the chief.

    Raises:
        UserError: on every rank, something to mend, in one sentence; nothing learned is lost.
        KeyboardInterrupt: Ctrl-C or a signal to end; a checkpoint of the last step was written.
    """
    check(request, ways)
    if request.minutes is not None:
        raise UserError("ranks are not trained by the clock: give --tokens or --bytes")
    if not is_chief():
        console = Console(quiet=True)
    with contextlib.ExitStack() as stack:
        if is_chief():
            stack.enter_context(folder_lock(folder))
        job = Together(request, ways, folder, console, stack)
        labels = {"rung": request.recipe, "group": "recipe"}
        train(job.begin, folder, choose_device(request.device), labels, job.seal)
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

    def begin(self, world: World) -> Begun | None:
        """The run as the chief plans it; None if it is finished."""
        plan, self.result = world.from_chief(self._planned)
        self.plan = plan
        if self.result is not None:
            self.say(f"{self.folder} is finished already")
            return None
        config = plan.config
        torch.set_num_threads(max(1, plan.threads // world.local_size))
        text = prepare(config.data, self.folder / CACHE)
        # Ctrl-C reaches every rank, and torchrun sends it once more.
        stop = self.stack.enter_context(Stop(patient=is_launched()))
        if not world.chief:
            return Begun(config, text, Care(stopping=lambda: stop.asked, prompts=PROMPTS))
        for line in opening_lines(self.request, plan, text):
            self.say(line)
        done = last_step(self.folder)
        if done:
            self.say(f"going on after step {done:,}")
        live = self.stack.enter_context(LiveLine(config, text, self.console))
        care = care_of(self.request, self.ways, self.folder, config, live, done, stop)
        return Begun(config, text, care, live.progress)

    def _planned(self) -> tuple[SoloPlan, dict[str, Any] | None]:
        plan = found_plan(self.request, self.folder)
        result = finished_result(self.folder, plan)
        if plan is None:
            plan = make_plan(self.request, self.folder, self.say)
        if result is None:
            text = prepare(plan.config.data, self.folder / CACHE)  # so that others find it read
            for note in text.corpus.notes:
                self.say(f"{text.corpus.name}: {note}")
        return plan, result

    def seal(self, result: dict[str, Any]) -> None:
        """Complete the run folder of a finished run."""
        assert self.plan is not None
        self.result = sealed(self.folder, self.plan.config, self.request)
