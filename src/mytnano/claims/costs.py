"""Costs that the log claims: seconds of training steps, side by side on a machine that is quiet.

Contestants are interleaved, each with its own compiled or eager step, and medians are compared;
compiling itself is not counted. :mod:`mytnano.ladder.attention_cost` measures attention alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil
import torch

from mytnano.config import ModelConfig, RunConfig
from mytnano.designs.baselines import SMALL
from mytnano.environment import environment
from mytnano.errors import UserError
from mytnano.lab.steptime import QUIET
from mytnano.ladder import attention_cost
from mytnano.measure.turns import clocked, in_turns
from mytnano.training.engine import Engine

WIDTHS = (128, 512)
TOKENS = 2048
"""Tokens of one step."""
CONTEXT = 256
ROUNDS = 7

LOGGED_TEXT = 1024
"""Bytes of one window, for bytes and for tokens alike: the log's thousand characters."""
VOCABULARY = 100_352
BYTES_PER_TOKEN = 4.674
"""Of cl100k_base on the log's own text, WikiText-103."""

Step = Callable[[], None]


def measure_costs(precision: str, device: str) -> dict[str, Any]:
    """Time all costs that the claims need; it takes a few minutes on two cores.

    Raises:
        UserError: the machine does something else.
    """
    check_quiet()
    return {
        "rmsnorm": {"speeds": _speeds("layernorm", "rmsnorm", _norm, precision, device)},
        "compile": {"speeds": _speeds(False, True, _compiled, precision, device)},
        "tokenizer": tokenizer(precision, device),
        "attention": attention_cost.measure(device),
        "tokens": TOKENS,
        "context": CONTEXT,
        "rounds": ROUNDS,
        "environment": environment(device, precision),
    }


def check_quiet() -> None:
    """Refuse to time anything on a busy machine.

    Raises:
        UserError: the machine does something else.
    """
    busy = psutil.cpu_percent(interval=1.0)
    if busy > QUIET:
        raise UserError(
            f"other programs use {busy:.0f} % of the machine, so seconds would mean nothing: try "
            "again when it does nothing else"
        )


def _norm(kind: object, config: RunConfig) -> RunConfig:
    return config.but(model={"norm": kind})


def _compiled(on: object, config: RunConfig) -> RunConfig:
    return config.but(train={"compile": on})


def _speeds(
    before: object, after: object, change: Callable[[object, RunConfig], RunConfig],
    precision: str, device: str,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Width -> speed of ``after`` over that of ``before``: median and extremes of the rounds."""
    found = {}
    for width in WIDTHS:
        base = of_width(width, 1024, CONTEXT, precision, device)
        steps = {name: stepper(change(name, base), TOKENS) for name in (before, after)}
        times = interleaved(steps)
        ratios = [a / b for a, b in zip(times[before], times[after], strict=True)]
        found[str(width)] = median_and_ends(ratios)
    return found


def median_and_ends(values: Sequence[float]) -> dict[str, float]:
    """``median``, ``low`` and ``high``."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def of_width(width: int, vocabulary: int, context: int, precision: str, device: str) -> RunConfig:
    """Four blocks of the baseline's kind."""
    model = ModelConfig.model_validate(
        {
            **SMALL.model.model_dump(), "width": width, "layers": 4, "heads": width // 32,
            "kv_heads": width // 32, "ffn_width": 4 * width, "vocab_size": vocabulary,
            "context": context,
        }
    )  # fmt: skip
    return SMALL.but(model=model.model_dump(), train={"precision": precision, "device": device})


def tokenizer(precision: str, device: str) -> dict[str, float]:
    """The same text in bytes and in cl100k tokens, through a model as the log's: width 128.

    ``blocks_speed_up`` leaves the head out, by a vocabulary of 256 in both.
    """
    windows = 2
    tokens = round(LOGGED_TEXT / BYTES_PER_TOKEN)

    def seconds(vocabulary: int) -> tuple[float, float]:
        steps = {
            "bytes": stepper(
                of_width(128, 256, LOGGED_TEXT, precision, device), windows * LOGGED_TEXT
            ),
            "tokens": stepper(
                of_width(128, vocabulary, tokens, precision, device), windows * tokens
            ),
        }
        found = interleaved(steps)
        return statistics.median(found["bytes"]), statistics.median(found["tokens"])

    of_bytes, of_tokens = seconds(256)
    whole_bytes, whole_tokens = seconds(VOCABULARY)
    return {
        "bytes_per_token": BYTES_PER_TOKEN,
        "vocabulary": VOCABULARY,
        "blocks_speed_up": of_bytes / of_tokens,
        "whole_speed_up": whole_bytes / whole_tokens,
    }


def stepper(config: RunConfig, tokens: int) -> Step:
    """A full optimizer step on random ids, compiled and warmed up."""
    engine = Engine(config)
    shape = (max(1, tokens // config.model.context), config.model.context)
    ids = torch.randint(config.model.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    ids = ids.to(config.train.device)

    def step() -> None:
        engine.gradients(ids, ids)
        engine.update(1e-3).item()  # waits for the device

    for _ in range(2):
        step()
    return step


def interleaved(steps: Mapping[object, Step]) -> dict[object, list[float]]:
    """Seconds of a step of each in every round, taken in turns."""

    def of_one(step: Step) -> Callable[[], float]:
        three = clocked(lambda: [step() for _ in range(3)])
        return lambda: three() / 3

    return in_turns({name: of_one(step) for name, step in steps.items()}, ROUNDS, warm=0)
