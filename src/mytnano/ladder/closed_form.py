"""Closed-form baselines of a ladder, on the same test text as its runs.

They are fitted on the bytes that its runs saw, and again on the whole training split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mytnano.config import SEMANTICS, DataConfig
from mytnano.designs.budgets import BATCH_WINDOWS, Budget
from mytnano.kept import kept, write_kept
from mytnano.ladder.cells import Where
from mytnano.measure.baselines import NAMES, closed_form_baselines, token_baselines
from mytnano.measure.symbols import stream_symbols
from mytnano.run_files import BASELINES
from mytnano.text.batches import Windows, tokens_per_window
from mytnano.training.outcome import pairs_of
from mytnano.training.text import Text, first_bytes, prepare

QUICK_NAMES = NAMES[:4]
"""The baselines of results that are not comparable anyway: compressors take most of the time."""

SEED = 0
"""Whose windows stand for what the runs saw; other seeds see other windows of the same text."""

BIGRAMS = "char_bigrams"


def baselines(where: Where, budget: Budget, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """``{"budget": [...], "full": [...], "char_bigrams": [...]}``; measured once an output folder.

    The first two hold :class:`~mytnano.measure.baselines.Baseline` as dicts. The third has the
    learned bigram's target for each of its ``seeds``, ``{"seed", "bpb", "nats_per_token"}``, as
    each seed reads other pairs. Test text is scored here, with every choice made on validation
    text.
    """
    data = where.data
    text = prepare(data.but(tokenizer="byte"), where.cache)
    conditions = [SEMANTICS, text.corpus.fingerprint, asdict(budget), data.window_bytes]
    found = kept(where.out / BASELINES, conditions, lambda: _measure(text, where, budget))
    known = {each["seed"]: each for each in found.get(BIGRAMS) or []}
    if missing := [seed for seed in seeds if seed not in known]:
        known |= {seed: _char_bigram(where, budget, seed) for seed in missing}
        bigrams = [known[seed] for seed in sorted(known)]
        found = write_kept(where.out / BASELINES, conditions, found | {BIGRAMS: bigrams})
    return found


def _measure(text: Text, where: Where, budget: Budget) -> dict[str, Any]:
    corpus = text.corpus
    test = first_bytes(corpus.test, budget.test_bytes)
    names = NAMES if budget.comparable else QUICK_NAMES
    fitted = {
        "budget": (_seen(text, where.data, budget), "seen"),
        "full": ([stream_symbols(corpus.train)], "full"),
    }
    scores = {
        key: closed_form_baselines(fragments, corpus.validation, test, label, names)
        for key, (fragments, label) in fitted.items()
    }
    rows = {key: [asdict(baseline) for baseline in found] for key, found in scores.items()}
    return {**rows, BIGRAMS: []}


def _seen(text: Text, data: DataConfig, budget: Budget) -> list[np.ndarray]:
    """Byte windows of a run's steps as symbols, (T + 1,) each.

    Once the budget exceeds the split it is the whole split, as repeats would distort the counts.
    """
    windows = _windows(text, data, SEED)
    if windows.per_epoch * data.window_bytes <= budget.train_bytes:
        return [stream_symbols(text.corpus.train)]
    starts = np.concatenate([windows.starts(step) for step in range(_steps(budget, data))])
    return [text.train.ids[s : s + windows.context + 1].astype(np.uint16) for s in starts]


def _char_bigram(where: Where, budget: Budget, seed: int) -> dict[str, float | None]:
    """The learned bigram's target: the pairs of that seed in the same vocabulary, counted."""
    text = prepare(where.data.but(tokenizer="char"), where.cache)
    pairs = _windows(text, where.data, seed).pairs(_steps(budget, where.data))
    validation, _ = pairs_of(text.validation, 0)
    test, size = pairs_of(text.test, budget.test_bytes)
    bigram = token_baselines(pairs, validation, test, text.tokenizer.vocab_size, size, "seen")[-1]
    return {"seed": seed, "bpb": bigram.bpb, "nats_per_token": bigram.nats_per_token}


def _windows(text: Text, data: DataConfig, seed: int) -> Windows:
    context = tokens_per_window(text.train, data.window_bytes)
    return Windows(text.train, data.window_bytes, context, BATCH_WINDOWS, seed)


def _steps(budget: Budget, data: DataConfig) -> int:
    return max(1, round(budget.train_bytes / (BATCH_WINDOWS * data.window_bytes)))
