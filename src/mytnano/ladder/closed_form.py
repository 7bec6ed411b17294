"""Closed-form baselines of a ladder: fitted on the bytes that its runs saw, and again on the whole training split."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import numpy as np

from mytnano.config import DataConfig
from mytnano.designs.budgets import Budget
from mytnano.files import atomic_write_json
from mytnano.ladder.cells import Where
from mytnano.measure.baselines import NAMES, closed_form_baselines, token_baselines
from mytnano.measure.symbols import stream_symbols
from mytnano.text.batches import Windows, tokens_per_window
from mytnano.text.stream import Stream
from mytnano.training.outcome import pairs_of
from mytnano.training.text import Text, first_bytes, prepare

FILE = "baselines.json"
BATCH = 4
SEED = 0
"""Whose windows stand for what the runs saw; other seeds see other windows of the same text."""


def baselines(where: Where, budget: Budget) -> dict:
    """``{"budget": [...], "full": [...], "char_bigram": {...}}``; taken from the output folder if they are there already.

    Test text is scored here, with every choice made on validation text.
    """
    data = where.data
    text = prepare(data.but(tokenizer="byte"), where.cache)
    key = hashlib.sha256(
        f"{text.corpus.fingerprint}|{budget}|{data.window_bytes}".encode()
    ).hexdigest()
    path = where.out / FILE
    try:
        known = json.loads(path.read_text())
        if known.get("key") == key:
            return known
    except (OSError, ValueError):
        pass
    test = first_bytes(text.corpus.test, budget.test_bytes)
    names = NAMES if budget.test_bytes == 0 else NAMES[:4]
    windows = _windows(text, data, budget)
    seen = windows if windows.per_epoch * data.window_bytes > budget.train_bytes else None
    fragments = _fragments(text, seen, budget, data)
    full = [stream_symbols(text.corpus.train)]
    result = {
        "key": key,
        "budget": [
            asdict(b)
            for b in closed_form_baselines(fragments, text.corpus.validation, test, "seen", names)
        ],
        "full": [
            asdict(b)
            for b in closed_form_baselines(full, text.corpus.validation, test, "full", names)
        ],
        "char_bigram": _char_bigram(where, budget),
    }
    atomic_write_json(path, result)
    return result


def _fragments(
    text: Text, windows: Windows | None, budget: Budget, data: DataConfig
) -> list[np.ndarray]:
    """Byte windows of the first steps as symbols; the whole split once the budget exceeds it, as repeats would distort counts."""
    if windows is None:
        return [stream_symbols(text.corpus.train)]
    starts = np.concatenate([windows.starts(step) for step in range(_steps(budget, data))])
    return [text.train.ids[s : s + windows.context + 1].astype(np.uint16) for s in starts]


def _char_bigram(where: Where, budget: Budget) -> dict:
    """The learned bigram's target: the same pairs in the same vocabulary, in closed form."""
    text = prepare(where.data.but(tokenizer="char"), where.cache)
    windows = _windows(text, where.data, budget)
    validation, _ = pairs_of(text.validation, 0)
    test, size = pairs_of(text.test, budget.test_bytes)
    pairs = windows.pairs(_steps(budget, where.data))
    bigram = token_baselines(pairs, validation, test, text.tokenizer.vocab_size, size, "seen")[-1]
    return {"bpb": bigram.bpb, "nats_per_token": bigram.nats_per_token}


def _windows(text: Text, data: DataConfig, budget: Budget) -> Windows:
    stream: Stream = text.train
    return Windows(
        stream, data.window_bytes, tokens_per_window(stream, data.window_bytes), BATCH, SEED
    )


def _steps(budget: Budget, data: DataConfig) -> int:
    return round(budget.train_bytes / (BATCH * data.window_bytes))
