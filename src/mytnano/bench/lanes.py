"""Processes that wait their turn, and the race between them.

Contestants alternate strictly (A B C A B C ...), one at a time, so that a slow minute of the
machine hits all of them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from mytnano.bench.shapes import Contestant, Precision
from mytnano.bench.worker import GEMM, Burst, Failed, serve
from mytnano.children import start_quiet_tracker

BURST_SECONDS = 2.0
"""Timed steps of one contestant in one round; at least one step."""


class Lane:
    """One contestant's process and what it measured.

    Attributes:
        contestant: None is the matrix product.
        compile_seconds: what its first step took longer than its second.
        seconds, cpu_seconds: median step of each round, by the clock and of all cores' work.
        peak_bytes: peak memory above what imports took.
        failure: why it left the race, or None.
    """

    def __init__(
        self,
        contestant: Contestant | None,
        threads: int,
        nanogpt: Path | None,
        precision: Precision,
    ) -> None:
        self.contestant = contestant
        self.compile_seconds = 0.0
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.peak_bytes: int | None = None
        self.failure: str | None = None
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        words = (there, contestant, threads, nanogpt, precision)
        start_quiet_tracker()
        self._process = context.Process(target=serve, args=words)
        self._process.start()
        there.close()

    @property
    def label(self) -> str:
        return self.contestant.label if self.contestant else "matrix product"

    @property
    def speeds(self) -> list[float]:
        """Tokens per second in each round; of the matrix product, operations per second."""
        work = self.contestant.shape.tokens if self.contestant else 2 * GEMM**3
        return [work / seconds for seconds in self.seconds]

    @property
    def speed(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.speeds)

    def warm_up(self) -> None:
        """Wait until it is compiled and warm."""
        if ready := self._receive():
            self.compile_seconds = ready.compile_seconds

    def run(self) -> None:
        """Time one burst."""
        burst = self._ask(BURST_SECONDS)
        if isinstance(burst, Burst):
            self.seconds.append(statistics.median(burst.seconds))
            self.cpu_seconds.append(statistics.median(burst.cpu_seconds))

    def finish(self) -> None:
        """Learn its peak memory."""
        self.peak_bytes = self._ask(None)

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._connection.close()
        self._process.terminate()
        self._process.join()

    def _ask(self, request: float | None) -> object:
        if self.failure:
            return None
        # If it died, what it said last, or its exit code, is read below.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(request)
        return self._receive()

    def _receive(self) -> object:
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            answer = Failed(f"its process ended with code {self._process.exitcode}")
        if isinstance(answer, Failed):
            self.failure = answer.reason
            return None
        return answer


def race(
    racing: list[Contestant],
    rounds: int,
    threads: int,
    nanogpt: Path | None,
    precision: Precision,
    say: Callable[[str], None] = lambda words: None,
) -> list[Lane]:
    """Time every contestant once in each round.

    The first lane is the matrix product's, in ``precision``.
    """
    with ExitStack() as stack:
        lanes = []
        for contestant in [None, *racing]:
            lane = Lane(contestant, threads, nanogpt, precision)
            stack.callback(lane.end)
            say(f"warming up {lane.label}")
            lane.warm_up()
            lanes.append(lane)
        for index in range(rounds):
            say(f"round {index + 1} of {rounds}")
            for lane in lanes:
                lane.run()
        for lane in lanes:
            lane.finish()
        return lanes
