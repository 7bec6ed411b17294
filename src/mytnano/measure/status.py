"""Did the model learn from its context, or is it a k-gram in disguise?

* ``diverged``: the loss is not a number, or worse than uniform guessing and not on its way down.
* ``collapsed``: the model can see more than k previous tokens, scores no better than 1 % below the
  k-gram fitted on the bytes that it was trained on (k = 0 or 1), and its predictions ignore the
  rest of the context.
* ``undertrained``: the same, but its loss was still falling. At k = 0 it suffices that it scores no
  better than the unigram and still falls: what it takes from its context is not worth anything yet.
  So is a run that has hardly left its first loss, which may be worse than uniform guessing.
* ``healthy``: none of these.

A loss alone cannot tell: a collapsed model sits quietly at the unigram entropy of its text.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F

from mytnano.config import ModelConfig
from mytnano.measure.evaluate import evaluation_spans
from mytnano.model.mode import evaluating
from mytnano.model.transformer import Transformer
from mytnano.text.stream import Stream

NEAR = 0.99
"""A score above this share of a k-gram's counts as no better than the k-gram."""
IGNORES = (0.05, 0.005)
"""Bits of KL divergence, for k = 0 and 1, below which predictions ignore the replaced context.

Wider at k = 0: four blocks without residual paths were seen at the unigram's loss with predictions
that still wavered by 0.02 bits, which gained them nothing.
"""
BEGUN = 2.0
"""Times the loss of uniform guessing up to which a falling loss is that of a run just begun."""
FALLING = 0.005
"""A validation loss that fell by this share over the second half of the run was still falling."""
LEAVING = 0.25
"""So was one that made this share of its whole way from uniform guessing in that half."""


@dataclass(frozen=True)
class Evidence:
    """What the status was decided on, in bits per byte of validation text.

    ``kl_bits[k]`` is what replacing all but the last k tokens does to the predictions.
    """

    sees: int
    model_bpb: float | None
    uniform_bpb: float
    unigram_bpb: float
    bigram_bpb: float
    kl_bits: tuple[float, float]
    falling: bool

    def as_json(self) -> dict:
        return asdict(self)


def judge(evidence: Evidence) -> str:
    """One of ``healthy``, ``collapsed``, ``undertrained``, ``diverged``."""
    bpb = evidence.model_bpb
    if bpb is None or not math.isfinite(bpb):
        return "diverged"
    if bpb > 1.001 * evidence.uniform_bpb:
        begun = evidence.falling and bpb < BEGUN * evidence.uniform_bpb
        return "undertrained" if begun else "diverged"
    for k, k_gram in enumerate((evidence.unigram_bpb, evidence.bigram_bpb)):
        if evidence.sees <= k or bpb <= NEAR * k_gram:
            continue
        ignores = evidence.kl_bits[k] < IGNORES[k]
        if evidence.falling and (ignores or k == 0):
            return "undertrained"
        if ignores:
            return "collapsed"
    return "healthy"


def visible_tokens(model: ModelConfig) -> int:
    """How many tokens a prediction can depend on: the last one without blocks, else the window."""
    return model.context if model.layers else 1


def still_falling(validation_bpb: list[float], uniform_bpb: float) -> bool:
    """Whether a curve (evenly spaced, end included) fell by ``FALLING`` over its second half.

    Half, because a decayed learning rate flattens the end of any curve. A run at a tiny rate barely
    moves from ``uniform_bpb``: what it moves counts, not the loss.
    """
    curve = [b for b in validation_bpb if math.isfinite(b)]
    if len(curve) < 2:
        return False
    fell = min(curve[: (len(curve) + 1) // 2]) - curve[-1]  # the least: one point is noisy
    return fell > min(FALLING * curve[-1], LEAVING * max(0.0, uniform_bpb - curve[-1]))


@torch.no_grad()
def context_kl_bits(model: Transformer, stream: Stream, keep: int, windows: int = 64) -> float:
    """Mean change (KL, bits) of a window's last prediction when earlier tokens are replaced.

    All but the last ``keep`` tokens are. The replacement is another window's tokens at the same
    positions: shuffling within the window would leave a bag of words unchanged and call it
    collapsed. ``windows`` windows are taken evenly from the whole text.
    """
    T = min(model.config.context, len(stream.ids) // 2)  # a short text still gives two windows
    spans = evaluation_spans(stream, T)
    full = spans.first[spans.length == T]  # (windows of the text,)
    full = full[np.linspace(0, len(full) - 1, min(windows, len(full))).astype(int)]  # (N,)
    if len(full) < 2:
        full = torch.linspace(0, len(stream.ids) - T - 1, 16).long().numpy()
    ids = torch.stack(
        [torch.from_numpy(stream.ids[i : i + T].astype("int64")) for i in full]
    )  # (N, T)
    ids = ids.to(next(model.parameters()).device)
    other = ids.roll(1, dims=0)  # (N, T)
    mixed = torch.cat((other[:, : T - keep], ids[:, T - keep :]), dim=1)  # (N, T)
    with evaluating(model):
        true, changed = (_last_log_probabilities(model, x) for x in (ids, mixed))  # (N, V) each
    return F.kl_div(changed, true, log_target=True, reduction="batchmean").item() / math.log(2)


def _last_log_probabilities(model: Transformer, ids: torch.Tensor) -> torch.Tensor:
    states = torch.cat([model(part)[:, -1] for part in ids.split(32)])  # (N, D)
    return model.head(states).float().log_softmax(-1)  # (N, V)
