"""What a run of ``mytnano train`` will be: recipe, text, budget, pace; fixed before it begins.

``plan.json`` in the run folder holds the request and the config that came of it. The same command
finds it there and goes on with it, so that a number of steps that was timed once is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pydantic
import torch

from mytnano.config import SEMANTICS, RunConfig
from mytnano.designs.recipes import (
    DEFAULT_SIZE,
    RECIPES,
    batch_windows,
    learning_rate,
    parameters,
    sized,
    whole_share,
)
from mytnano.designs.scale import SCALE
from mytnano.designs.settings import changed
from mytnano.designs.used import check_used
from mytnano.environment import choose_device
from mytnano.errors import UserError, unknown
from mytnano.files import TEMPORARY
from mytnano.kept import another_version, read_kept, write_kept
from mytnano.model.own import with_own_code
from mytnano.run_files import CACHE, PLAN
from mytnano.runs.lock import LOCK, OWNER
from mytnano.solo.memory import check_memory, fitting_windows, free_for_each, memory_said
from mytnano.solo.request import Request, differences
from mytnano.text.bpe import SMALLEST, VocabularyTooLarge
from mytnano.training.contract import check_own
from mytnano.training.engine import uneven
from mytnano.training.pace import measure_pace, other_seconds, step_seconds, steps_in
from mytnano.training.precision import bf16_products_pay, choose_precision
from mytnano.training.text import Text, prepare, resolve

OWN = frozenset({LOCK, OWNER, CACHE})
"""What may be in a folder in which nothing has begun."""

PROMPTS = ("The", "I have")
"""What the model continues after every quarter of the steps; a space at the end would be a token of
its own, which text does not have before a word."""

TOKENS_PER_PARAMETER = 10
"""Of a run whose length nobody names (Hoffmann et al. 2022 found about 20, nanochat about 10)."""

PLAN_SECONDS = 60.0
"""Time for which steps are timed as in a run that has it, only to print a plan."""

SPIKE = 8.0
"""Spreads above the recent median at which a step is skipped; a setting, so ``spike=0`` is off."""

SET_ELSEWHERE = {
    "data.corpus": "--corpus", "data.split": "--split", "data.test_file": "--test-file",
    "train.train_bytes": "--minutes, --tokens or --bytes", "train.device": "--device",
    "train.precision": "--precision", "data.fingerprint": "the text",
    "model.vocab_size": "tokenizer=bpe:SIZE", "model.context": "window_bytes=BYTES",
    "model.own_code": "the file of your module", "optim.own_code": "the file of your optimizer",
    "train.fleet": "--fleet of mytnano ladder and mytnano ablate",
}  # fmt: skip


@dataclass(frozen=True)
class SoloPlan:
    """A resolved run: its config, threads, and how its length came about (seconds, for people)."""

    config: RunConfig
    threads: int
    pace: dict[str, float]

    @property
    def expected_seconds(self) -> float | None:
        """Of the steps and everything after them, where they were timed."""
        return self.pace.get("expected_seconds")


def check_request(request: Request) -> None:
    """Refuse what can be refused before any text is read.

    Raises:
        UserError: two budgets, one that is no amount, a setting that an option sets, or one that
            changes nothing in this recipe.
    """
    budgets = {"--minutes": request.minutes, "--tokens": request.tokens, "--bytes": request.bytes}
    given = [name for name, value in budgets.items() if value is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} are two budgets: give one of them")
    if given and not 0 < budgets[given[0]] < math.inf:  # type: ignore[operator]
        raise UserError(f"{given[0]} must be above zero, and a finite number")
    for name in request.changes:
        if name in SET_ELSEWHERE:
            raise UserError(f"{name} follows from {SET_ELSEWHERE[name]}: set it there")
    if request.whole and request.minutes is not None:
        raise UserError(f"{request.recipe} is not trained by the clock: give --tokens or --bytes")
    if request.whole and request.size is not None:
        raise UserError(f"{request.recipe} has a size of its own: leave --size out")
    check_used(changed(recipe_config(request), request.changes), request.changes)


def recipe_config(request: Request) -> RunConfig:
    """The recipe at its size, before anything of the text or the machine.

    Raises:
        UserError: there is no such recipe or size.
    """
    if request.whole is None and request.recipe not in RECIPES:
        raise unknown(request.recipe, "a recipe", [*RECIPES, *SCALE])
    return request.whole or sized(request.recipe, request.size_named or DEFAULT_SIZE)


def found_plan(request: Request, folder: Path) -> SoloPlan | None:
    """The plan that an earlier command left in the folder; None if there is none.

    Raises:
        UserError: the folder belongs to another request or another version, or holds something
            without a plan that can be read.
    """
    found = read_kept(folder / PLAN)
    if found is None:
        names = [path.name for path in folder.iterdir()]
        if any(name not in OWN and not name.startswith(TEMPORARY) for name in names):
            raise UserError(
                f"{folder} is not empty, and holds no {PLAN} that is whole, so it is no run to go "
                "on with: choose another --out, or move the folder away"
            )
        return None
    if differing := differences(request.as_json(), found.get("request", {})):
        raise UserError(
            f"{folder} holds a run of another request ({'; '.join(differing)}): choose another "
            "--out, or repeat the command that made it"
        )
    plan = _read_plan(found)
    if plan is None:
        raise another_version(f"the run in {folder}")
    return plan


def _read_plan(found: dict[str, Any]) -> SoloPlan | None:
    """What a file that is whole says; None if another version wrote it."""
    try:
        if found["semantics"] != SEMANTICS:
            return None
        config = RunConfig.model_validate(found["config"])
        plan = SoloPlan(config, found["threads"], found["pace"])
        return plan if config.hash == found["hash"] else None
    except (KeyError, pydantic.ValidationError):  # it lacks, or has, what this version does not
        return None


def meeting_device(request: Request, folder: Path) -> str:
    """Where ranks meet, before one of them reads the plan for all: where the run is, or will be.

    If that is not here it is a CPU, where what is the matter can be said.
    """
    found = read_kept(folder / PLAN) or {}
    try:
        return choose_device(found["config"]["train"]["device"] if found else request.device)
    except (UserError, LookupError, TypeError):
        return "cpu"


def check_device(config: RunConfig, folder: Path) -> None:
    """Refuse to go on with a run where its device is not at hand.

    Raises:
        UserError: this machine lacks it.
    """
    try:
        choose_device(config.train.device)
    except UserError:
        raise UserError(
            f"the run in {folder} is on {config.train.device}, which this machine does not have: "
            "go on with it where there is one, or choose another --out"
        ) from None


def make_plan(
    request: Request,
    folder: Path,
    say: Callable[[str], None],
    ranks: int = 1,
    local_ranks: int = 1,
) -> SoloPlan:
    """Decide everything about the run, timing steps if the budget is a time, and write it down.

    Args:
        ranks, local_ranks: processes that share it, and how many of them are on this machine.

    Raises:
        UserError: the text or the machine does not suit the request, a module of the user's breaks
            its contract, or there is too little time or memory.
    """
    threads = torch.get_num_threads()
    config = _placed(request)
    if not _batch_by_rule(request):
        _check_shared(config, ranks)
    config = _on_text(config, request, folder / CACHE, say)
    check_own(config)
    text = prepare(config.data, folder / CACHE)
    per_token = text.train.byte_count / len(text.train.ids)
    free = free_for_each(config.train.device, local_ranks)
    if request.minutes is None:
        tokens = request.tokens or (request.bytes or 0) / per_token
        if not tokens and request.whole:
            tokens = request.whole.train.train_bytes / per_token
        if not tokens:
            vocabulary = config.model.vocab_size
            tokens = TOKENS_PER_PARAMETER * parameters(config.model, vocabulary)
        config = _budgeted(config, request, tokens * per_token, ranks, free)
        check_memory(config, ranks, free, request.sharded)
        pace: dict[str, float] = {}
    else:
        config, pace = _paced(config, request, text, free)
    plan = SoloPlan(config, threads, pace)
    content = {"request": request.as_json(), "config": config.model_dump(), "hash": config.hash}
    rest = {"semantics": SEMANTICS, "threads": threads, "pace": pace}
    write_kept(folder / PLAN, None, content | rest)
    return plan


def _batch_by_rule(request: Request) -> bool:
    """Whether the number of windows of a step follows from the length of the run."""
    return not request.whole and "train.batch_windows" not in request.changes


def _check_shared(config: RunConfig, ranks: int) -> None:
    if sentence := uneven(config.train.batch_windows, ranks):
        raise UserError(sentence)


def timed_plan(plan: SoloPlan, text: Text) -> SoloPlan:
    """The plan with how long it takes here, which a run of so much text need not know."""
    config = plan.config
    pace = measure_pace(step_seconds(config, text, PLAN_SECONDS), text)
    expected = config.steps * pace.step + other_seconds(config, text, pace, len(PROMPTS))
    return replace(plan, pace=pace.as_json() | {"expected_seconds": expected})


def process_began() -> float:
    """When this process was started, before any import: seconds since 1970."""
    return psutil.Process().create_time()


def _placed(request: Request) -> RunConfig:
    device = choose_device(request.device)
    precision = request.precision
    if precision == "auto":  # the probe takes a second, so only where bf16 might pay
        precision = choose_precision(device)[0] if bf16_products_pay(device) else "fp32"
    config = recipe_config(request).but(
        data={name: getattr(request.data, name) for name in ("corpus", "split", "test_file")},
        optim={"spike": SPIKE},
        train={"device": device, "precision": precision, "compile": device == "cuda"},
    )
    return with_own_code(changed(config, request.changes))


def _on_text(
    config: RunConfig, request: Request, cache: Path, say: Callable[[str], None]
) -> RunConfig:
    """The config in the recipe's vocabulary, or the largest below it that the text supports."""
    try:
        prepare(config.data, cache)
    except VocabularyTooLarge as error:
        size = error.smaller
        if "data.tokenizer" in request.changes or size <= SMALLEST:
            smaller = f"bpe:{error.largest}" if error.largest >= SMALLEST else "byte"
            raise UserError(f"{error}: ask for tokenizer={smaller}, or add text") from None
        say(f"{error}; bpe:{size} is used instead")
        config = config.but(data={"tokenizer": f"bpe:{size}"})
    # A recipe of a fixed size names its window in tokens.
    return resolve(
        config, cache, bool(request.whole) and "data.window_bytes" not in request.changes
    )


def _budgeted(config: RunConfig, request: Request, size: float, ranks: int, free: int) -> RunConfig:
    """Batch, rate and what is scored, by the rules for about ``size`` bytes of training text.

    The batch is rounded up to what the ranks share evenly.

    ``train_bytes`` becomes a whole number of steps. Each rank has ``free`` bytes of memory.
    """
    window = config.data.window_bytes
    if request.whole:
        config = config.but(train={"train_bytes": round(size)})
        return _fitted(config, request, config.train.micro_windows, ranks, free)
    if _batch_by_rule(request):
        tokens = size * config.model.context / window
        windows = whole_share(batch_windows(tokens, config.model.context), ranks)
        config = config.but(train={"batch_windows": windows})
    config = _fitted(config, request, 0, ranks, free)
    step = config.train.batch_windows * window
    return _length(config, request, max(1, round(size / step)))


def _fitted(config: RunConfig, request: Request, most: int, ranks: int, free: int) -> RunConfig:
    """The config with passes that fit into a GPU: of ``most`` windows, all for 0, or fewer."""
    if config.train.device != "cuda" or "train.micro_windows" in request.changes:
        return config
    share = max(1, config.train.batch_windows // ranks)
    most = min(share, most or share)
    fitting = fitting_windows(config, ranks, most, free, request.sharded)
    return config.but(train={"micro_windows": fitting}) if fitting < most else config


def _length(config: RunConfig, request: Request, steps: int) -> RunConfig:
    """The config with so many steps, and with what follows from that but was not asked for."""
    size = steps * config.train.batch_windows * config.data.window_bytes
    config = config.but(train={"train_bytes": size})
    wanted = {
        "optim.lr": learning_rate(request.recipe, config),
        # A score costs a third of a step, so these take one and two percent of the time.
        "train.curve_bytes": min(max(4096, size // 256), 65_536),
        "train.validation_bytes": min(max(32_768, size // 16), 2**20),
    }
    rules = {name: value for name, value in wanted.items() if name not in request.changes}
    return changed(config, rules)


def _paced(
    config: RunConfig, request: Request, text: Text, free: int
) -> tuple[RunConfig, dict[str, float]]:
    """The config whose steps, with all that comes before and after, take the minutes asked for."""
    budget = 60 * (request.minutes or 0)
    # The smallest batch tells how much text there is time for, which decides the real one.
    config = _budgeted(config, request, config.data.window_bytes, 1, free)
    check_memory(config, 1, free)
    with memory_said(config):
        timed = step_seconds(config, text, budget)
    steps = max(1.0, budget - request.seconds_so_far) / timed.seconds
    step = config.train.batch_windows * config.data.window_bytes
    wanted = _budgeted(config, request, steps * step, 1, free)
    with memory_said(wanted):
        if wanted.train.batch_windows != config.train.batch_windows:
            del timed  # or two models and optimizers would be in memory at once
            timed = step_seconds(wanted, text, budget)
        pace = measure_pace(timed, text)
    other = other_seconds(wanted, text, pace, len(PROMPTS))
    smaller = request.size_named != DEFAULT_SIZE
    steps = steps_in(budget - request.seconds_so_far, pace.step, other, smaller)
    expected = steps * pace.step + other
    return _length(wanted, request, steps), pace.as_json() | {"expected_seconds": expected}
