"""Minimal pairs (Warstadt et al. 2020, BLiMP): which of two sentences does a model find likelier?

A sentence's probability is that of all its tokens after the start of a document; its end is left
out, as in the lm-evaluation-harness.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.stats

from mytnano.errors import UserError
from mytnano.inference.load import LoadedRun
from mytnano.measure.evaluate import score_tokens
from mytnano.text.readers import existing_path, read_bytes
from mytnano.text.stream import encode_documents

TIE = 1e-4
"""Nats: two sentences closer than this cannot be told apart from rounding in fp32."""

LEVEL = 0.95
GROUPS = ("linguistics_term", "field", "UID")
"""Fields of a pair that may name its phenomenon; the first that a file has is used."""


@dataclass(frozen=True)
class Pair:
    """Two sentences, and the names that its file gives the phenomenon."""

    good: str
    bad: str
    names: dict[str, str]


@dataclass(frozen=True)
class Share:
    """Of ``pairs`` pairs, how many had the likelier good sentence; a tie counts half.

    ``low`` and ``high`` are Wilson's interval (1927).
    """

    name: str
    pairs: int
    ties: int
    right: float
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.right / self.pairs


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a JSONL file, or of all such files in a folder.

    Raises:
        UserError: no such file, or a line that is no pair; the sentence names it.
    """
    if existing_path(str(path)) is None:
        raise UserError(f"'{path!s:.60}' is not an existing file or folder: check the spelling")
    path = Path(path).expanduser()
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"'{path}' has no .jsonl file: give a file or folder of minimal pairs")
    pairs = [pair for file in files for pair in _read_file(file)]
    if not pairs:
        raise UserError(f"'{path}' holds no pairs: each line has sentence_good and sentence_bad")
    return pairs


def _read_file(file: Path) -> Iterator[Pair]:
    for number, line in enumerate(read_bytes(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            good, bad = row["sentence_good"], row["sentence_bad"]
            if not (isinstance(good, str) and isinstance(bad, str) and good and bad):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"line {number} of '{file}' is no minimal pair: it must be a JSON object with the "
                "sentences sentence_good and sentence_bad"
            ) from None
        names = {name: str(row[name]) for name in GROUPS if row.get(name)}
        yield Pair(good, bad, {"UID": file.stem} | names)


def grouping(pairs: list[Pair], wanted: str | None) -> str:
    """The field by which pairs are grouped.

    Raises:
        UserError: a wanted field that not all pairs have.
    """
    shared = [name for name in GROUPS if all(name in pair.names for pair in pairs)]
    if wanted is None:
        return shared[0]
    if wanted not in shared:
        raise UserError(f"not all pairs have '{wanted}': group by {' or '.join(shared)}")
    return wanted


def log_probabilities(run: LoadedRun, sentences: list[str]) -> np.ndarray:
    """Nats (sentences,) float64: the log-probability of each, its end left out."""
    documents = [sentence.encode(errors="surrogatepass") for sentence in sentences]
    stream = encode_documents(documents, run.tokenizer)
    nats, _ = score_tokens(run.model, stream)
    nats[stream.ids == run.tokenizer.eod_id] = 0.0
    return -np.add.reduceat(nats, stream.document_starts)


def advantages(run: LoadedRun, pairs: list[Pair]) -> np.ndarray:
    """Nats (pairs,) by which the good sentence is likelier.

    Raises:
        UserError: the predictions are not numbers.
    """
    sentences = [pair.good for pair in pairs] + [pair.bad for pair in pairs]
    good, bad = log_probabilities(run, sentences).reshape(2, -1)  # (pairs,) each
    if not np.isfinite(good - bad).all():
        raise UserError("this run's predictions are not numbers: it diverged, and has no score")
    return good - bad


def shares(pairs: list[Pair], advantage: np.ndarray, by: str) -> list[Share]:
    """One share for each phenomenon, by name, and last that of all pairs."""
    names = np.array([pair.names[by] for pair in pairs])  # (pairs,)
    groups = [(name, advantage[names == name]) for name in sorted(set(names.tolist()))]
    return [share(name, nats) for name, nats in [*groups, ("all", advantage)]]


def share(name: str, advantage: np.ndarray) -> Share:
    """The share of pairs whose good sentence is likelier, from advantages (pairs,) in nats."""
    ties = int((np.abs(advantage) < TIE).sum())
    right = int((advantage >= TIE).sum()) + ties / 2
    return Share(name, len(advantage), ties, right, *wilson(right, len(advantage)))


def wilson(right: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval (1927) of a share; ``scipy`` has it for whole numbers only."""
    z = float(scipy.stats.norm.ppf((1 + level) / 2))
    middle = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(right * (n - right) / n + z * z / 4)
    return max(0.0, middle - half), min(1.0, middle + half)
