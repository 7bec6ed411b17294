"""What needs no training: closed-form baselines in bits per byte on the test text.

Token level (:func:`token_baselines`) for the vocabulary of a run; byte level
(:func:`closed_form_baselines`) for a corpus. Both fit on what they are given, choose k on
validation and only then score the test text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mytnano.errors import UserError
from mytnano.measure.compressors import documents_text, training_text, xz_bits, zstd_bits
from mytnano.measure.kneser_ney import fit_kneser_ney
from mytnano.measure.ngrams import fit_bigram
from mytnano.measure.symbols import SYMBOLS, bits_per_byte, document_symbols, symbol_pairs

Pairs = tuple[np.ndarray, np.ndarray]
"""(contexts, targets): previous token and token, two int arrays of equal length."""

NAMES = ("uniform", "unigram", "bigram", "kneser-ney-5", "xz", "zstd")


@dataclass(frozen=True)
class Baseline:
    """One closed-form score.

    Attributes:
        name: one of :data:`NAMES`.
        bpb: bits per raw byte of the test text, end-of-document loss included.
        nats_per_token: mean loss of one predicted token (a byte or a document end at byte level);
            None for a compressor.
        detail: what was fitted on (``label``) and what was chosen (k, discounts).
    """

    name: str
    bpb: float
    nats_per_token: float | None
    detail: dict = field(default_factory=dict)


def token_baselines(
    train: Pairs, validation: Pairs, test: Pairs, vocab_size: int, raw_bytes: int, label: str
) -> list[Baseline]:
    """Uniform, unigram and bigram over any vocabulary, document ends being tokens like any other.

    Args:
        train: pairs that a run saw, its windows x and y flattened.
        validation: pairs that choose k.
        test: pairs that are scored.
        vocab_size: number of token ids, end-of-document included.
        raw_bytes: bytes of the scored text.
        label: what ``train`` is, kept in ``detail``.

    Raises:
        UserError: an empty validation or test text, or an id outside the vocabulary.
    """
    contexts, targets = test
    if not (raw_bytes and len(targets)):
        raise UserError("the test text is empty, so no baseline can be scored; give some text")
    bigram = fit_bigram(*train, vocab_size, validation)
    unigram = bigram.unigram
    losses = [
        ("uniform", len(targets) * math.log(vocab_size), {}),
        ("unigram", unigram.nats(targets), {"k": unigram.k}),
        ("bigram", bigram.nats(contexts, targets), {"k": bigram.k, "unigram_k": unigram.k}),
    ]
    return [
        Baseline(
            name, bits_per_byte(nats, raw_bytes), nats / len(targets), {"label": label, **detail}
        )
        for name, nats, detail in losses
    ]


def closed_form_baselines(
    train: Sequence[np.ndarray],
    validation_documents: Sequence[bytes],
    test_documents: Sequence[bytes],
    label: str,
    names: Sequence[str] = NAMES,
) -> list[Baseline]:
    """Byte-level baselines of a test text, in the order of ``names``.

    Args:
        train: fragments of symbols 0..256: ``document_symbols`` of each document, or the windows a
            run saw as slices of ``stream_symbols`` (T + 1 symbols, each window once).
        validation_documents: choose k; nothing else is chosen.
        test_documents: what is scored, each from its start, its end included.
        label: what ``train`` is, kept in ``detail``.
        names: the ones to compute; xz and zstd take most of the time.

    Raises:
        UserError: an unknown name, or an empty validation or test text.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise UserError(f"no baseline is called '{unknown[0]}'; choose among {', '.join(NAMES)}")
    raw_bytes = sum(map(len, test_documents))
    if not raw_bytes:
        raise UserError("the test text is empty, so no baseline can be scored; give some text")
    test = [document_symbols(document) for document in test_documents]
    scores = {}
    if {"uniform", "unigram", "bigram"} & set(names):
        validation = symbol_pairs(document_symbols(document) for document in validation_documents)
        pairs = symbol_pairs(train), validation, symbol_pairs(test)
        scores = {each.name: each for each in token_baselines(*pairs, SYMBOLS, raw_bytes, label)}
    if "kneser-ney-5" in names:
        scores["kneser-ney-5"] = _kneser_ney(train, test, raw_bytes, label)
    for name, bits in _COMPRESSORS.items():
        if name in names:
            total = bits(training_text(train), documents_text(test_documents))
            scores[name] = Baseline(name, total / raw_bytes, None, {"label": label})
    return [scores[name] for name in names]


_COMPRESSORS: dict[str, Callable[[bytes, bytes], float]] = {"xz": xz_bits, "zstd": zstd_bits}


def _kneser_ney(
    train: Sequence[np.ndarray], test: list[np.ndarray], raw_bytes: int, label: str
) -> Baseline:
    model = fit_kneser_ney(train)
    nats = model.nats(test)
    predicted = sum(map(len, test)) - len(test)
    detail = {"label": label, "discounts": model.discounts}
    return Baseline("kneser-ney-5", bits_per_byte(nats, raw_bytes), nats / predicted, detail)
