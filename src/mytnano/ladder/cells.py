"""From rungs to jobs: which configs a ladder trains."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mytnano.config import DataConfig, RunConfig
from mytnano.designs.budgets import WHOLE_TEXT, Budget, text_size
from mytnano.designs.changes import budgeted
from mytnano.designs.families import stand_ins
from mytnano.designs.rates import BYTES_EXPONENT, learning_rate_for
from mytnano.designs.rungs import BEST_BPE, KNOWN, Rung, design
from mytnano.errors import UserError
from mytnano.ladder.estimate import run_seconds
from mytnano.ladder.fleets import as_member
from mytnano.run_files import CACHE, RUNS
from mytnano.runs.jobs import Job, Report
from mytnano.text.bpe import VocabularyTooLarge
from mytnano.text.corpus import Corpus
from mytnano.training.loop import train
from mytnano.training.matching import run_flops, with_flops
from mytnano.training.text import prepare, read_corpus, resolve
from mytnano.words import counted, rounded

SMALLEST_BPE = 512
EPOCHS_GROUP = "dropout"
"""Group whose rungs are named by how often they read their text."""


@dataclass(frozen=True)
class Where:
    """What all runs of a command share: the text, the machine, and the output folder.

    Attributes:
        data: corpus, split and test file; the other fields are each run's own.
        precision, device: of training.
        rates: a sweep file's content for this corpus; None for the shipped one.
        best_bpe: the trained vocabulary of the rungs that use the best one.
        fleet: whether runs of one shape train together, where they can.
        group_rates: rung of an extended group -> the rate that was tuned for it here.
    """

    data: DataConfig
    out: Path
    precision: str
    device: str
    rates: dict | None = None
    best_bpe: str = BEST_BPE
    fleet: bool = False
    group_rates: Mapping[str, float] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        return self.out / CACHE

    @property
    def text(self) -> dict[str, str | None]:
        """The settings of ``DataConfig`` that all runs have in common."""
        return {name: getattr(self.data, name) for name in ("corpus", "split", "test_file")}

    @property
    def corpus(self) -> Corpus:
        return read_corpus(**self.text)

    @property
    def train_bytes(self) -> int:
        """Bytes of the training split."""
        return sum(map(len, self.corpus.train))


def cell(
    rung: Rung,
    budget: Budget,
    seed: int,
    where: Where,
    say: Callable[[str], None] = lambda sentence: None,
) -> RunConfig:
    """The resolved config of one run: design, tuned rate, budget, text, machine and seed.

    ``say`` gets a sentence when the text supports no vocabulary of the rung's size.

    Raises:
        UserError: the text does not suit the rung's vocabulary or window.
    """
    size = budget.bytes_of(rung.group)
    rate = learning_rate_for(rung.id, size, where.rates, where.group_rates)
    config = design(rung.id).but(optim={"lr": rate}, train={"seed": seed})
    config = placed(with_best_bpe(config, rung, where), budget, rung, where, say)
    if rung.equal_flops is None:
        return config
    middle = cell(middle_of(rung, budget, where), budget, seed, where)
    config = with_flops(config, run_flops(middle))
    rate *= (config.train.train_bytes / size) ** BYTES_EXPONENT
    return config.but(optim={"lr": rounded(rate)})


def middle_of(rung: Rung, budget: Budget, where: Where) -> Rung:
    """The rung whose FLOPs another is given: the one that it names, or what stands in for it.

    Raises:
        UserError: the text supports no trained vocabulary.
    """
    able = (KNOWN[id] for id in stand_ins(rung.equal_flops or rung.id))
    return next(each for each in able if not _unsupported(each, budget, where))


def unsuited(rung: Rung, budget: Budget, where: Where) -> str:
    """Why a rung is left out: on this text it would not be what its name says. Else empty.

    Raises:
        UserError: the text supports no trained vocabulary.
    """
    if sentence := _unsupported(rung, budget, where):
        return sentence
    if rung.equal_flops and rung.parent == (middle := middle_of(rung, budget, where)).id:
        return f"{middle.id} is itself the one whose FLOPs the others are given"
    part = budget.bytes_of(rung.group) // rung.epochs
    if rung.group == EPOCHS_GROUP and part >= where.train_bytes:
        return (
            f"it is to read {text_size(part)} of text {counted(rung.epochs, 'time')}, and the "
            f"training text has {text_size(where.train_bytes)}"
        )
    return ""


def _unsupported(rung: Rung, budget: Budget, where: Where) -> str:
    """Why the text does not support a rung's vocabulary, where its size is what the rung tests."""
    if rung.group != WHOLE_TEXT:
        return ""
    data = budgeted(design(rung.id), rung, budget).data.but(**where.text)
    return supported_tokenizer(data, where.cache)[1].partition(";")[0]


def with_best_bpe(config: RunConfig, rung: Rung, where: Where) -> RunConfig:
    """The config with the vocabulary that was found best here, if it has the shipped best one.

    Where sizes are what the rung's group is about, each stays what it is.
    """
    if config.data.tokenizer != BEST_BPE or rung.group == WHOLE_TEXT:
        return config
    return config.but(data={"tokenizer": where.best_bpe})


def placed(
    config: RunConfig,
    budget: Budget,
    rung: Rung,
    where: Where,
    say: Callable[[str], None] = lambda sentence: None,
) -> RunConfig:
    """A rung's config under a budget, on this text and machine, resolved; ``say`` as in
    :func:`cell`."""
    machine = {"precision": where.precision, "device": where.device}
    config = budgeted(config, rung, budget).but(data=where.text, train=machine)
    supported, sentence = supported_tokenizer(config.data, where.cache)
    if sentence:
        say(sentence)
        config = config.but(data={"tokenizer": supported})
    return as_member(resolve(config, where.cache), where.fleet)


@functools.lru_cache(maxsize=64)
def supported_tokenizer(data: DataConfig, cache: Path) -> tuple[str, str]:
    """The tokenizer that ``data`` names, or the next smaller power of two that its text supports.

    Returns:
        Its name, and a sentence if it is not the one asked for, else "".

    Raises:
        UserError: the text supports fewer than ``SMALLEST_BPE`` tokens.
    """
    try:
        prepare(data, cache)
        return data.tokenizer, ""
    except VocabularyTooLarge as error:
        size = error.smaller
        if size < SMALLEST_BPE:
            raise UserError(
                f"{error}, and the smallest in use is bpe:{SMALLEST_BPE}: add text, or choose "
                "rungs that train no vocabulary with --rungs"
            ) from None
        return f"bpe:{size}", f"{error}; bpe:{size} is used instead"


def job(rung: Rung, config: RunConfig, where: Where, speed: float) -> Job:
    """The job that trains ``config``.

    ``speed`` is the machine's tokens/s on :data:`~mytnano.training.precision.PROBE`.
    """
    labels = {"rung": rung.id, "group": rung.group}
    return labelled_job(f"{rung.id}-s{config.train.seed}", config, where, speed, labels)


def labelled_job(
    name: str, config: RunConfig, where: Where, speed: float, labels: dict[str, str]
) -> Job:
    """A job of any name; ``labels`` (``rung`` and ``group``) go into its result."""
    return Job(
        name=name,
        rung=labels["rung"],
        seed=config.train.seed,
        config=(config, where.cache, labels),
        folder=where.out / RUNS / f"{name}-{config.hash}",
        hash=config.hash,
        expected_seconds=run_seconds(config, where.corpus, speed),
    )


def work(job: Job, report: Report) -> None:
    """Train one job; what worker processes call."""
    config, cache, labels = job.config
    train(config, prepare(config.data, cache), job.folder, report.progress, labels)
