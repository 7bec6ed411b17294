"""A finished run on any text: bits per byte, document by document, with an interval."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.stats

from mytnano.errors import UserError, unknown
from mytnano.inference.load import LoadedRun
from mytnano.inference.own_text import read_for, trained_on
from mytnano.measure.evaluate import Score, score_tokens
from mytnano.text.readers import read_source
from mytnano.text.stream import Stream, encode_documents

LEVEL = 0.95
RESAMPLES = 9_999
FEWEST = 10
"""Documents below which a bootstrap over them says nothing worth printing."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Texts:
    """What is scored: a name for titles, the documents, and sentences to print."""

    name: str
    documents: list[bytes]
    notes: list[str]


@dataclass(frozen=True)
class Evaluation:
    """A run's score of some documents.

    Attributes:
        score: totals, and nats and bytes of each document.
        document_tokens, document_right: (documents,) tokens predicted, and first guesses right.
        interval: of the BPB over documents drawn anew; None for fewer than :data:`FEWEST`.
        stream: what was scored.
        nats, right: of each id of the stream; see :func:`~mytnano.measure.evaluate.score_tokens`.
    """

    score: Score
    document_tokens: np.ndarray
    document_right: np.ndarray
    interval: tuple[float, float] | None
    stream: Stream
    nats: np.ndarray
    right: np.ndarray

    @property
    def document_bpb(self) -> np.ndarray:
        """Bits per byte of each document, (documents,)."""
        return self.score.document_nats / (math.log(2) * self.score.document_bytes)


def read_texts(run: LoadedRun, text: Path | None, corpus: str | None, split: str) -> Texts:
    """The documents of a file or folder as they are, of a corpus's split, or of the run's own.

    The run's own corpus, by whatever name, keeps the run's own split. Of any other text it is said
    how much of it was trained on.

    Raises:
        UserError: there is no such text or split, or the run's own text has changed.
    """
    if text is not None and corpus is not None:
        raise UserError("--text and --corpus are two ways to name the text: give one of them")
    if split not in (*SPLITS, "all"):
        raise unknown(split, "a split", (*SPLITS, "all"))
    data = run.config.data
    notes = [run.caveat] if run.caveat else []
    if text is not None:
        source = read_source(str(text))
        notes += [*source.notes, trained_on(data, source.documents)]
        return Texts(source.name, source.documents, notes)
    read, own = read_for(data, data.corpus if corpus is None else corpus)
    names = SPLITS if split == "all" else (split,)
    documents = [document for name in names for document in getattr(read, name)]
    notes += read.notes
    if not own:
        notes.append(trained_on(data, documents))
    elif corpus not in (None, data.corpus):
        notes.append(f"'{corpus}' is the text of this run, whose own split is kept.")
    return Texts(f"{read.name}, {split}", documents, notes)


def evaluate(run: LoadedRun, documents: list[bytes]) -> Evaluation:
    """Score documents as the test text of a run is scored, each from its own start.

    Raises:
        UserError: there is no text, or the predictions are not numbers.
    """
    if not any(documents):
        raise UserError("there is no text to score: give a file that is not empty")
    stream = encode_documents(documents, run.tokenizer)
    nats, right = score_tokens(run.model, stream)
    if not np.isfinite(nats).all():
        raise UserError("this run's predictions are not numbers: it diverged, and has no score")
    # Document i is predicted by the ids behind its leading end-of-document, its own end included.
    begins = stream.document_starts + 1  # (documents,)
    ends = np.append(begins[1:], len(stream.ids))  # (documents,)
    document_nats = np.add.reduceat(nats, begins)  # (documents,)
    document_right = np.add.reduceat(right.astype(np.int64), begins)  # (documents,)
    sizes = np.array([len(document) for document in documents], dtype=np.int64)  # (documents,)
    total = Score(
        float(document_nats.sum()),
        len(stream.ids) - 1,
        stream.byte_count,
        int(document_right.sum()),
        document_nats,
        sizes,
    )
    interval = bootstrap(document_nats, sizes)
    return Evaluation(total, ends - begins, document_right, interval, stream, nats, right)


def bootstrap(nats: np.ndarray, sizes: np.ndarray) -> tuple[float, float] | None:
    """Interval of total nats / (ln 2 x total bytes) if other documents of the kind had been drawn.

    Documents are drawn with replacement (Efron 1979), bias-corrected and accelerated.

    Args:
        nats, sizes: (documents,) each.
    """
    if len(nats) < FEWEST:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # documents all alike: said by the missing interval
        found = scipy.stats.bootstrap(
            (nats, sizes),
            lambda n, b, axis: n.sum(axis) / (math.log(2) * b.sum(axis)),
            paired=True,
            confidence_level=LEVEL,
            n_resamples=RESAMPLES,
            batch=500,
            rng=np.random.default_rng(0),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def as_json(run: LoadedRun, texts: Texts, found: Evaluation, per_token: bool) -> dict:
    """The evaluation as plain values; with ``per_token`` also every token's nats.

    A token is ``[id, its bytes as text, nats, first guess was right]``; an end-of-document has ''.
    """
    tokens, ids = run.tokenizer, found.stream.ids
    documents = []
    begin = 1
    for i, count in enumerate(found.document_tokens.tolist()):
        entry = {
            "bytes": int(found.score.document_bytes[i]),
            "tokens": count,
            "nats": float(found.score.document_nats[i]),
            "bpb": float(found.document_bpb[i]) if found.score.document_bytes[i] else None,
            "accuracy": float(found.document_right[i] / count),
        }
        if per_token:
            entry["per_token"] = [
                [
                    int(ids[place]),
                    tokens.token_bytes(int(ids[place])).decode(errors="backslashreplace"),
                    float(found.nats[place]),
                    bool(found.right[place]),
                ]
                for place in range(begin, begin + count)
            ]
        documents.append(entry)
        begin += count
    return {
        "run": run.name,
        "config_hash": run.hash,
        "text": texts.name,
        "notes": texts.notes,
        "bytes": found.score.bytes,
        "tokens": found.score.tokens,
        "bpb": found.score.bits_per_byte,
        "bpb_interval": found.interval,
        "interval_level": LEVEL,
        "loss": found.score.loss,
        "accuracy": found.score.accuracy,
        "documents": documents,
    }
