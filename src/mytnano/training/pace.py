"""How many steps fit into a time: steps are timed on a throwaway copy, then the number is fixed.

The run itself never looks at the clock, so it can be resumed and repeated bit for bit. What is
timed: full optimizer steps of the very config, after compilation and warm-up; scoring; sampling.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import torch

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.measure.evaluate import score
from mytnano.model.sampling import sample
from mytnano.training.engine import Engine
from mytnano.training.loop import SAMPLE_MOMENTS, SAMPLE_TOKENS
from mytnano.training.outcome import SAMPLE_BYTES
from mytnano.training.text import Text, windows_of
from mytnano.words import counted

STEPS = 20
WARM_UP = 3
SHARE = 1 / 60
"""Of the time that one has, what timing may take once five steps are timed."""

FEWEST_TIMED = 5
SCORED_BYTES = 16_384
STATUS_WINDOWS = 256
"""Windows that the evidence for a status passes through the model, and a little more."""

FIXED_SECONDS = 3.0
"""Fitting the bigram, measuring the peak, drawing the curve, writing files, leaving the program."""

KEPT_BACK = 0.03
"""Share of the time that is not planned: other programs, the drift of a warm machine."""

FEWEST_STEPS = 20


@dataclass(frozen=True)
class Timed:
    """Mean seconds of a step, how many were timed, and the copy that made them."""

    seconds: float
    steps: int
    engine: Engine


@dataclass(frozen=True)
class Pace:
    """Seconds of one step, of scoring one token, and of drawing one; ``steps`` were timed."""

    step: float
    scored_token: float
    drawn_token: float
    steps: int

    def as_json(self) -> dict[str, float]:
        return {f"{name}_seconds" if name != "steps" else "timed_steps": value
                for name, value in asdict(self).items()}  # fmt: skip


def step_seconds(config: RunConfig, text: Text, budget: float) -> Timed:
    """Time full optimizer steps of a resolved config, after compilation and warm-up.

    Args:
        budget: seconds that the whole run has; of a short one timing takes only ``SHARE``.
    """
    engine = Engine(config)
    windows = windows_of(config, text)
    engine.model.train()
    timed, started = -WARM_UP, time.perf_counter()
    while timed < STEPS:
        if timed == 0:
            started = time.perf_counter()
        batch = windows.batch(timed + WARM_UP)
        x, y = (torch.from_numpy(ids).to(config.train.device) for ids in batch)  # (B, T) each
        engine.gradients(x, y).item()
        engine.update(0.0).item()
        timed += 1
        if timed >= FEWEST_TIMED and time.perf_counter() - started > SHARE * budget:
            break
    return Timed((time.perf_counter() - started) / timed, timed, engine)


def measure_pace(timed: Timed, text: Text) -> Pace:
    """The pace of a run whose steps were timed."""
    model = timed.engine.model
    started = time.perf_counter()
    scored = score(model, text.validation, SCORED_BYTES)
    scoring = (time.perf_counter() - started) / scored.tokens
    started = time.perf_counter()
    sample(model, [text.tokenizer.eod_id], 8)
    drawing = (time.perf_counter() - started) / 8
    return Pace(timed.seconds, scoring, drawing, timed.steps)


def other_seconds(config: RunConfig, text: Text, pace: Pace, prompts: int) -> float:
    """Seconds of everything but the steps: scores along the curve and at the end, samples, files.

    Args:
        prompts: texts that are continued after every quarter of the steps.
    """
    train = config.train
    validation, test = text.validation.byte_count, text.test.byte_count
    curve = train.evaluations * min(train.curve_bytes, validation)
    scored = curve + min(train.validation_bytes or validation, validation)
    scored += min(train.test_bytes or test, test) if train.score_test else 0
    tokens = scored * len(text.train.ids) / text.train.byte_count
    tokens += STATUS_WINDOWS * config.model.context
    drawn = prompts * SAMPLE_MOMENTS * SAMPLE_TOKENS
    drawn += SAMPLE_BYTES * len(text.train.ids) / text.train.byte_count
    return tokens * pace.scored_token + drawn * pace.drawn_token + FIXED_SECONDS


def steps_in(seconds: float, step: float, other: float, smaller: bool = True) -> int:
    """Steps that leave time for the rest.

    Args:
        seconds: there are for all of it.
        step: seconds of one. other: seconds of the rest.
        smaller: whether there is a smaller size to advise.

    Raises:
        UserError: there is no time for a run worth the name.
    """
    steps = int((seconds * (1 - KEPT_BACK) - other) / step)
    if steps < FEWEST_STEPS:
        needed = (FEWEST_STEPS * step + other) / (1 - KEPT_BACK) - seconds
        also = ", or a smaller --size" if smaller else ""
        raise UserError(
            f"there is time for {counted(max(0, steps), 'step')} of {step:.2g} s, and "
            f"{FEWEST_STEPS} are the least: give {needed / 60:.1f} minutes more{also}"
        )
    return steps
