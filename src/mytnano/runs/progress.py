"""What a person sees while jobs run: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mytnano.runs.jobs import Event, Failed, Finished, Job, Note, Started, Told
from mytnano.training.care import Progress
from mytnano.words import duration

PLAIN_SECONDS = 15.0
"""Between two lines of progress where the terminal cannot redraw them."""

_REDRAWS_PER_SECOND = 2  # a redraw takes time from the cores that train


@dataclass
class Active:
    """A running job: when it began, and the last that it told."""

    job: Job
    since: float
    progress: Progress | None = None

    @property
    def fraction(self) -> float:
        """Share of the steps done."""
        if self.progress is None or self.progress.steps < 1:
            return 0.0
        return min(1.0, self.progress.step / self.progress.steps)


class Tracker:
    """Follows the events and estimates the time left; draws nothing.

    The estimate corrects the jobs' expected seconds by one common factor, observed time over
    expected time so far, and lays the rest out on the workers as the runner would.
    """

    def __init__(
        self, jobs: Sequence[Job], workers: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = len(jobs)
        self.done = self.failed = self.reused = 0
        self._active: dict[str, Active] = {}
        self._waiting = {job.name: job.expected_seconds for job in jobs}
        self._all = sum(self._waiting.values())
        self._prior = self._all / max(1, self.total)
        self._workers = max(1, workers)
        self._clock = clock
        self._began = clock()
        self._observed = self._expected = 0.0

    @property
    def running(self) -> list[Active]:
        """The running jobs, in the order begun."""
        # In one step, because a live display asks from a thread of its own.
        return list(self._active.values())

    @property
    def elapsed(self) -> float:
        """Seconds since the command began."""
        return self._clock() - self._began

    @property
    def fraction(self) -> float:
        """Share of the expected seconds that is done."""
        left = sum(self._running_seconds()) + sum(self._waiting.values())
        return 1.0 - left / self._all if self._all else 1.0

    def hear(self, event: Event) -> None:
        """Take one event into account."""
        if isinstance(event, Note):
            return
        name = event.job.name
        if isinstance(event, Started):
            self._waiting.pop(name, None)
            self._active[name] = Active(event.job, self._clock())
        elif isinstance(event, Told):
            if name in self._active:
                self._active[name].progress = event.progress
        else:
            self._close(event)

    def seconds_left(self) -> float:
        """Estimate of the seconds until the last job ends."""
        running = self._running_seconds()
        loads = running + [0.0] * (self._workers - len(running))
        heapq.heapify(loads)
        for seconds in sorted(self._waiting.values(), reverse=True):
            heapq.heapreplace(loads, loads[0] + seconds)
        return max(loads) * self.pace

    def _running_seconds(self) -> list[float]:
        return [a.job.expected_seconds * (1 - a.fraction) for a in self.running]

    @property
    def pace(self) -> float:
        """Observed over expected time so far."""
        observed, expected = self._observed, self._expected
        now = self._clock()
        for active in self.running:
            if active.fraction > 0:
                observed += now - active.since
                expected += active.job.expected_seconds * active.fraction
        # One average job that went as expected keeps the first seconds from swinging.
        return (observed + self._prior) / (expected + self._prior) if self._prior else 1.0

    def _close(self, event: Finished | Failed) -> None:
        self._waiting.pop(event.job.name, None)
        self._active.pop(event.job.name, None)
        self.done += 1
        if isinstance(event, Failed):
            self.failed += 1
        elif event.reused:
            self.reused += 1
        else:
            self._observed += event.seconds
            self._expected += event.job.expected_seconds


class Display:
    """Prints permanent lines: what was reused, every finished or failed run, notes.

    Use as a context manager around :func:`mytnano.runs.runner.run_jobs` and pass it as
    ``on_event``. It ends cleanly on any exception.
    """

    def __init__(self, tracker: Tracker, console: Console) -> None:
        self.tracker = tracker
        self.console = console
        self._told_reused = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._tell_reused()

    def __call__(self, event: Event) -> None:
        self.tracker.hear(event)
        if isinstance(event, Started):
            self._tell_reused()
        elif isinstance(event, (Note, Failed)):
            self._line(event.sentence, "yellow" if isinstance(event, Note) else "red")
        elif isinstance(event, Finished) and not event.reused:
            self._line(self._finished_line(event))

    def _finished_line(self, event: Finished) -> str:
        tracker = self.tracker
        count = f"[{tracker.done:>{len(str(tracker.total))}}/{tracker.total}]"
        return f"{count} {event.job.name}: {_result_words(event.result, event.seconds)}"

    def _tell_reused(self) -> None:
        if self.tracker.reused and not self._told_reused:
            self._told_reused = True
            self._line(f"finished already: {self.tracker.reused} of {self.tracker.total} runs")

    def _line(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)


class PlainDisplay(Display):
    """Lines for a log file or a pipe: the permanent ones, and the state every 15 seconds."""

    def __init__(self, tracker: Tracker, console: Console) -> None:
        super().__init__(tracker, console)
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        now = self.tracker.elapsed
        if isinstance(event, Told) and now - self._last >= PLAIN_SECONDS:
            self._last = now
            running = "; ".join(
                f"{active.job.name} {_progress_words(active.progress)}"
                for active in self.tracker.running
                if active.progress is not None
            )
            self._line(f"  about {duration(self.tracker.seconds_left())} left; {running}")


class LiveDisplay(Display):
    """A display that is redrawn in place: one line per running job, and the whole."""

    def __init__(
        self,
        tracker: Tracker,
        console: Console,
        below: Callable[[], RenderableType] | None = None,
    ) -> None:
        super().__init__(tracker, console)
        self._below = below
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=_REDRAWS_PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._live.stop()

    def _render(self) -> RenderableType:
        tracker = self.tracker
        table = Table.grid(padding=(0, 2))
        for active in tracker.running:
            table.add_row(
                Text(f"{active.job.rung} s{active.job.seed}", style="bold"),
                ProgressBar(total=1.0, completed=active.fraction, width=16),
                Text(_progress_words(active.progress)),
            )
        whole = Table.grid(padding=(0, 2))
        whole.add_row(
            ProgressBar(total=1.0, completed=tracker.fraction, width=32),
            Text(f"{tracker.done}/{tracker.total} runs"),
            Text(f"{duration(tracker.elapsed)} so far"),
            Text(f"about {duration(tracker.seconds_left())} left"),
        )
        return Group(table, whole, *([self._below()] if self._below else []))


def progress_display(
    groups: Sequence[Sequence[Job]],
    workers: int,
    console: Console | None = None,
    below: Callable[[], RenderableType] | None = None,
) -> Display:
    """The display that fits the console: live on a terminal, plain lines elsewhere.

    ``below`` gives what a live display shows under the runs, anew at each redraw.
    """
    console = console or Console()
    tracker = Tracker([job for group in groups for job in group], workers)
    if console.is_interactive:
        return LiveDisplay(tracker, console, below)
    return PlainDisplay(tracker, console)


def _progress_words(progress: Progress | None) -> str:
    if progress is None:
        return "starting"
    words = [f"step {progress.step:,}/{progress.steps:,}", f"loss {progress.loss:.3f}"]
    if progress.validation_bpb is not None:
        words.append(f"{progress.validation_bpb:.3f} bpb")
    if progress.tokens_per_second:
        words.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    return ", ".join(words)


def _result_words(result: dict[str, Any], seconds: float) -> str:
    words = []
    if isinstance(result.get("test_bpb"), (int, float)):
        words.append(f"{result['test_bpb']:.3f} bpb")
    if result.get("status"):
        words.append(str(result["status"]))
    if isinstance(result.get("tokens_per_second"), (int, float)):
        words.append(f"{result['tokens_per_second']:,.0f} tokens/s")
    return ", ".join([*words, duration(seconds)])
