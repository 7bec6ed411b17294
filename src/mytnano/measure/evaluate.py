"""Bits per byte over whole documents: the same bytes for any vocabulary and any batch size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from mytnano.model.loss import IGNORE, head_scores
from mytnano.model.mode import evaluating
from mytnano.model.transformer import Transformer
from mytnano.text.stream import Stream

BATCH_TOKENS = 4096
"""Tokens scored at once, few enough to stay in a CPU cache (twice as fast as 8192 on a 1 MiB one).
It changes speed and memory, never which tokens are scored or in which context."""

ACCELERATOR_TOKENS = 32_768
"""The same beside a CPU, where each batch costs launches of many kernels, and no cache is lost."""


def tokens_at_once(device: torch.device) -> int:
    """Tokens of one batch that is scored."""
    return BATCH_TOKENS if device.type == "cpu" else ACCELERATOR_TOKENS


@dataclass(frozen=True)
class Score:
    """What a model paid for some text, end-of-document symbols included.

    ``document_nats`` and ``document_bytes`` (documents,) are the same, document by document.
    """

    nats: float
    tokens: int
    bytes: int
    right: int
    document_nats: np.ndarray
    document_bytes: np.ndarray

    @property
    def bits_per_byte(self) -> float:
        """Total nats / (ln 2 x UTF-8 bytes): comparable across vocabularies, as no mean is."""
        return self.nats / (math.log(2) * self.bytes)

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def accuracy(self) -> float:
        """Share of tokens that were the model's first guess."""
        return self.right / self.tokens


@dataclass(frozen=True)
class Spans:
    """Non-overlapping windows from each document's start: first input token, targets, document."""

    first: np.ndarray  # (windows,)
    length: np.ndarray  # (windows,)
    document: np.ndarray  # (windows,)


def evaluation_spans(stream: Stream, context: int, max_bytes: int = 0) -> Spans:
    """Cut every document into windows of ``context`` targets, the last one shorter.

    Stops after ``max_bytes`` bytes; 0 is never.
    """
    ends = np.append(stream.document_starts[1:], len(stream.ids) - 1)  # (documents,)
    first, length, document = [], [], []
    for index, (start, end) in enumerate(zip(stream.document_starts, ends, strict=True)):
        if max_bytes:
            if stream.offsets[start] >= max_bytes:
                break
            end = min(end, int(np.searchsorted(stream.offsets, max_bytes)))
        starts = np.arange(start, end, context)  # (windows of this document,)
        first.append(starts)
        length.append(np.minimum(context, end - starts))
        document.append(np.full(len(starts), index))
    return Spans(np.concatenate(first), np.concatenate(length), np.concatenate(document))


def score(model: Transformer, stream: Stream, max_bytes: int = 0) -> Score:
    """Score a split with a model in whatever precision and device the model is.

    Args:
        model: its ``config.context`` is the window length.
        stream: the split, in the model's vocabulary.
        max_bytes: only about the first so many bytes (0: everything).
    """
    context = model.config.context
    spans = evaluation_spans(stream, context, max_bytes)
    documents = int(spans.document[-1]) + 1
    nats, sizes, right = np.zeros(documents), np.zeros(documents, np.int64), 0
    for part, token_nats, token_right in _scored(model, stream, spans, context):
        np.add.at(nats, spans.document[part], token_nats.sum(1).numpy())
        right += int(token_right.sum())
    last = spans.first + spans.length  # (windows,)
    np.add.at(
        sizes,
        spans.document,
        _byte_offset(stream, last + 1) - _byte_offset(stream, spans.first + 1),
    )
    return Score(float(nats.sum()), int(spans.length.sum()), int(sizes.sum()), right, nats, sizes)


def score_tokens(model: Transformer, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`score`, token by token, in the same windows.

    Returns:
        nats (n,) float64 and whether the first guess was right (n,) bool, of each id of the stream;
        the leading end-of-document, which nothing predicts, has 0 and False.
    """
    spans = evaluation_spans(stream, model.config.context)
    nats = np.zeros(len(stream.ids))  # (n,)
    right = np.zeros(len(stream.ids), dtype=bool)  # (n,)
    for part, token_nats, token_right in _scored(model, stream, spans, int(spans.length.max())):
        steps = np.arange(token_nats.shape[1])  # (T,)
        inside = steps < spans.length[part, None]  # (B, T)
        places = (spans.first[part, None] + 1 + steps)[inside]  # (tokens,)
        nats[places] = token_nats.numpy()[inside]
        right[places] = token_right.numpy()[inside]
    return nats, right


@torch.no_grad()
def _scored(
    model: Transformer, stream: Stream, spans: Spans, longest: int
) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
    """A batch of windows at a time: their indices (B,), fp64 nats (B, T) and whether the first
    guess was right (B, T), on the CPU. ``longest`` is the tokens that a window is taken to have."""
    device = next(model.parameters()).device
    with evaluating(model):
        for part in _batches(spans, max(1, tokens_at_once(device) // longest)):
            x, y = _gather(stream, spans.first[part], spans.length[part])  # (B, T), (B, T)
            nats, right = head_scores(
                model(x.to(device)), model.head.weight, y.to(device), model.config.softcap
            )  # (B, T)
            yield part, nats.cpu().double(), right.cpu()  # fp64 is not on every device


def _batches(spans: Spans, size: int) -> list[np.ndarray]:
    """Window indices, longest windows first so that each batch is padded little."""
    order = np.argsort(-spans.length, kind="stable")  # (windows,)
    return [order[i : i + size] for i in range(0, len(order), size)]


def _gather(
    stream: Stream, first: np.ndarray, length: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    steps = np.arange(int(length.max()))  # (T,)
    inside = steps < length[:, None]  # (B, T)
    place = np.minimum(first[:, None] + steps, len(stream.ids) - 2)  # (B, T)
    x = stream.ids[place].astype(np.int64)  # (B, T)
    y = np.where(inside, stream.ids[place + 1], IGNORE).astype(np.int64)  # (B, T)
    return torch.from_numpy(x), torch.from_numpy(y)


def _byte_offset(stream: Stream, token: np.ndarray) -> np.ndarray:
    """Bytes before each token index; the index past the last token gives all bytes."""
    return np.append(stream.offsets, stream.byte_count)[token]
