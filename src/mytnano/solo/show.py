"""What ``mytnano train`` prints: the plan, one live line, the outcome."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text as Styled

from mytnano.config import RunConfig
from mytnano.designs.recipes import parameters
from mytnano.runs.progress import PLAIN_SECONDS
from mytnano.solo.plan import Request, SoloPlan
from mytnano.training.care import Progress
from mytnano.training.schedule import learning_rate
from mytnano.training.text import Text
from mytnano.words import counted, duration, percent, quantity


def opening_lines(request: Request, plan: SoloPlan, text: Text, resumed: bool = False) -> list[str]:
    """Model, budget and machine of the run, and how long it will take where that is known.

    Of a run that is ``resumed``, :func:`resumption_line` says that.
    """
    config = plan.config
    model, train, data = config.model, config.train, config.data
    count = parameters(model, model.vocab_size)
    tokens = config.steps * train.batch_windows * model.context
    passes = train.train_bytes / text.train.byte_count
    lines = [
        f"{request.name}: {quantity(count)} parameters, {counted(model.layers, 'block')} of "
        f"width {model.width}, {data.tokenizer}, windows of {data.window_bytes} bytes "
        f"({model.context} tokens)",
        f"{counted(config.steps, 'step')} of {counted(train.batch_windows, 'window')}: "
        f"{quantity(train.train_bytes)} bytes, {quantity(tokens)} tokens, {passes:.1f} passes "
        f"through the text; lr {config.optim.lr:g}",
    ]
    timed = ""
    if plan.expected_seconds is not None:
        left = "" if resumed else f", about {duration(plan.expected_seconds)} to go"
        timed = f"; {plan.pace['step_seconds']:.3g} s a step{left}"
    lines.append(f"{train.device}: {train.precision}, {counted(plan.threads, 'thread')}{timed}")
    return lines


def resumption_line(plan: SoloPlan, done: int) -> str:
    """Where a run that an earlier command began goes on, and how long the rest will take."""
    if not done:
        return "started earlier, but no checkpoint was written; starting over"
    left = ""
    if plan.expected_seconds is not None:
        seconds = plan.expected_seconds - done * plan.pace["step_seconds"]
        left = f", about {duration(seconds)} to go"
    return f"going on after step {done:,}{left}"


def closing_lines(result: Mapping[str, Any], folder: Path) -> list[str]:
    """Scores, speed and where the files are."""
    if result["test_bpb"] is None:
        scores = f"no scores, as the run is {result['status']}"
        if result["validation_bpb"] is not None:  # score_test=false
            scores = (
                f"validation {result['validation_bpb']:.4f} bits per byte; the test text was not "
                f"scored; {result['status']}"
            )
    else:
        scores = (
            f"test {result['test_bpb']:.4f} bits per byte, validation "
            f"{result['validation_bpb']:.4f}; {result['status']}"
        )
    share = result["peak_share"]
    of = f"{percent(share)} of the peak ({result['peak_source']})"
    of = of if share else result["peak_source"]
    skipped = result.get("skipped_steps", 0)
    also = f"; {counted(skipped, 'skipped step')}" if skipped else ""
    return [
        scores + also,
        f"{result['tokens_per_second']:,.0f} tokens/s, {of}; the command took "
        f"{duration(result['command_seconds'])}",
        f"written to {folder}: model.safetensors, tokenizer, result.json, metrics.jsonl, "
        "samples.jsonl",
    ]


class LiveLine:
    """One line that changes on a terminal, a line every 15 seconds elsewhere.

    It is a recorder of the loop, and its :meth:`progress` is the loop's ``on_progress``.
    """

    def __init__(self, config: RunConfig, text: Text, console: Console) -> None:
        self._config, self._console = config, console
        self._bits = len(text.train.ids) / text.train.byte_count / math.log(2)  # nats/token -> BPB
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._begun: tuple[int, float] | None = None
        self._printed = time.monotonic()
        self._skipped = 0

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def progress(self, at: Progress) -> None:
        """Show where the run is."""
        now = time.monotonic()
        self._begun = self._begun or (at.step, now)
        line = self._words(at, now)
        if self._live.is_started:
            self._live.update(Styled(line, no_wrap=True), refresh=True)
        elif now - self._printed > PLAIN_SECONDS:
            self._printed = now
            self.say(line)

    def _words(self, at: Progress, now: float) -> str:
        lr = learning_rate(self._config.optim, min(at.step, at.steps - 1), at.steps)
        words = [f"step {at.step:,}/{at.steps:,}"]
        words.append(f"loss {at.loss:.3f} ({at.loss * self._bits:.3f} bpb)")
        if at.validation_bpb is not None:
            words.append(f"validation {at.validation_bpb:.3f} bpb")
        words += [f"lr {lr:.2e}", f"{at.tokens_per_second:,.0f} tokens/s"]
        if self._skipped:
            words.append(f"{self._skipped} skipped")
        first, since = self._begun or (at.step, now)
        if at.step > first:
            left = (at.steps - at.step) * (now - since) / (at.step - first)
            words.append(f"{duration(left)} left")
        return ", ".join(words)

    def point(self, point: Mapping[str, Any]) -> None:
        self._skipped = point.get("skipped", 0)

    def sample(self, step: int, prompt: str, text: str) -> None:
        """Samples are in the folder; a line of progress stays a line."""

    def close(self, result: Mapping[str, Any] | None) -> None:
        """The line goes when the block ends."""

    def say(self, sentence: str) -> None:
        """Print a sentence above the line."""
        self._console.print(Styled(sentence), soft_wrap=True)
