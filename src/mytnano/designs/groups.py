"""The extended groups: which rungs stand beside each other, along which axis, and who decides.

A group is data. Its members are rungs of :mod:`mytnano.designs.families` and, as one point among
them, rungs of the core ladder, whose runs are then the same runs. ``mytnano ladder --rungs NAME``
trains a group; a verdict is the lab's, so a group names the lab's questions that bear on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mytnano.designs.budgets import BATCH_WINDOWS
from mytnano.designs.families import BASE, DROPOUTS, EPOCHS, EXTENDED, MIDDLE, VOCABULARIES
from mytnano.designs.rung import Rung
from mytnano.words import rounded

Place = Callable[[Rung, dict[str, Any], dict[str, Any]], float]
"""Where a rung stands on the axis: from the rung, a row of its results, and its model settings."""

PASSES = "passes"
"""How often the run read its text, which the report adds to the row, see :func:`passes`."""


@dataclass(frozen=True)
class Axis:
    """A numeric axis, drawn in powers of two. ``name`` is what stands under it."""

    name: str
    place: Place


@dataclass(frozen=True)
class Group:
    """Rungs to be read together.

    Attributes:
        name: on the command line.
        title: of its section in the report.
        question: what it asks.
        read: how its figure is to be read, and what is not equal.
        members: id -> label, in the order of the figure.
        axis: None for kinds, which are rows.
        lines: id -> name of the line that it belongs to, where an axis carries several.
        verdicts: built-in questions of the lab that ask a part of it.
        base: the rung that its others are compared with.
    """

    name: str
    title: str
    question: str
    read: str
    members: dict[str, str]
    axis: Axis | None = None
    lines: dict[str, str] | None = None
    verdicts: tuple[str, ...] = ()
    base: str = BASE

    @property
    def ids(self) -> tuple[str, ...]:
        """Every rung that the group trains."""
        return tuple(self.members)


def _own(group: str, **labels: str) -> dict[str, str]:
    """``relu="ReLU"`` -> ``{"activations-relu": "ReLU"}``; underscores of a name are dashes."""
    return {f"{group}-{name.replace('_', '-')}": label for name, label in labels.items()}


def _numbered(group: str, base: float) -> dict[str, str]:
    """The members of a family over numbers, the base among them at its place."""
    found = {rung.id: rung.id.removeprefix(f"{group}-").rstrip("x") for rung in EXTENDED.values()
             if rung.group == group}  # fmt: skip
    found[BASE] = f"{base:g}"
    return dict(sorted(found.items(), key=lambda item: float(item[1])))


_TOKENIZERS = {
    "tokenizers-byte": "byte",
    "tokenizers-char": "char",
    **{f"tokenizers-{n}": f"{n:,}" for n in VOCABULARIES},
    f"{BASE}-cl100k": "cl100k",
}
_EQUAL_FLOPS = {rung.id: _TOKENIZERS[rung.parent or ""] for rung in EXTENDED.values()
                if rung.equal_flops}  # fmt: skip
_DROPOUT = {
    id: (f"dropout {share:g}", epochs)
    for epochs in (1, *EPOCHS)
    for share, id in (
        (0.0, BASE if epochs == 1 else f"dropout-{epochs}-epochs"),
        *((s, f"dropout-{s:g}" + (f"-{epochs}-epochs" if epochs > 1 else "")) for s in DROPOUTS),
    )
}

_EQUAL_BYTES = "Every rung reads the same bytes."

WIDER_GROUPS = {
    group.name: group
    for group in (
        Group(
            "sizes", "Sizes", "What do more parameters buy from the same text?",
            f"{_EQUAL_BYTES} FLOPs grow with the size: this is a curve of a budget in text.",
            {"sizes-small": "small", BASE: "medium", **_own("sizes", large="large",
             xlarge="xlarge")},
            Axis("parameters without tables", lambda rung, row, model: row["params_non_embedding"]),
        ),
        Group(
            "tokenizers", "Tokenizers", "How large should the vocabulary be?",
            "Left: every vocabulary reads the same bytes. Right: each reads as many bytes as the "
            "training FLOPs of bpe:8192 pay for, or of the largest size below it that the text "
            "supports, in a run of its own whose schedule is complete, so that no point is taken "
            "from the middle of another's. A vocabulary of this group is learned from the whole "
            "training text, of which a run reads a part, and cl100k was learned elsewhere: the "
            "larger it is, the more it brings along that the run did not read.",
            {**_TOKENIZERS, **_EQUAL_FLOPS},
            Axis("ids of the vocabulary", lambda rung, row, model: row["vocab_size"]),
            verdicts=("tokenizer", "cl100k"), base=MIDDLE,
        ),
        Group(
            "activations", "Activations", "What should bend the feed-forward network?",
            f"{_EQUAL_BYTES} Parameters and FLOPs are equal: two matrices of width 516 are three "
            "of 344.",
            {**_own("activations", relu="ReLU", gelu="GELU", silu="SiLU", relu2="ReLU²", glu="GLU",
             geglu="GEGLU"), BASE: "SwiGLU"},
            verdicts=("activations", "gated", "swiglu"),
        ),
        Group(
            "ffn-width", "Feed-forward width", "How wide should the feed-forward network be?",
            f"{_EQUAL_BYTES} The width is counted as that of two matrices in widths of the stream; "
            "parameters and FLOPs grow with it.",
            _numbered("ffn-width", 4),
            Axis("feed-forward width / width of the stream",
                 lambda rung, row, model: round(model["ffn_width"] * 1.5 / model["width"])),
            verdicts=("ffn-width",),
        ),
        Group(
            "kv-heads", "Shared keys and values", "What does a smaller cache cost?",
            f"{_EQUAL_BYTES} With fewer key/value heads go their parameters and their FLOPs.",
            {"kv-heads-mha": "MHA, 4 heads", BASE: "GQA, 2 heads", "kv-heads-mqa": "MQA, 1 head"},
            verdicts=("gqa",),
        ),
        Group(
            "norms", "Norms", "Which norm, with a gain or not, and where?",
            f"{_EQUAL_BYTES} A sandwich undoes projections that start at zero with the first step, "
            "so it starts, like the row above it, from PyTorch's own weights.",
            {BASE: "RMSNorm before", **_own("norms", no_gain="RMSNorm without gain",
             layernorm="LayerNorm", layernorm_no_gain="LayerNorm without gain",
             post="RMSNorm after", qk="QK-norm besides"), "inits-torch": "RMSNorm, torch init",
             "norms-sandwich": "sandwich, torch init"},
            verdicts=("norm", "no-gain", "norm-place", "sandwich", "qk-norm"),
        ),
        Group(
            "positions", "Positions", "What should tell the order of tokens?",
            f"{_EQUAL_BYTES} Only learned positions have parameters.",
            {**_own("positions", learned="learned"), BASE: "RoPE",
             **_own("positions", alibi="ALiBi", none="none")},
            verdicts=("positions", "alibi"),
        ),
        Group(
            "tying", "Tied tables", "Should embedding and head be one table?",
            f"{_EQUAL_BYTES} Both start at std 0.02, as one table cannot start as the base's two "
            "do; the tied model has one table less.",
            {BASE: "untied, the base's init", "inits-gpt2": "untied, std 0.02",
             "tying-tied": "tied, std 0.02"},
            verdicts=("tied",),
        ),
        Group(
            "dropout", "Dropout and epochs", "Does dropout pay when the text is read again?",
            f"{_EQUAL_BYTES} What differs is how many of them are new: all, a 4th, a 16th.",
            {id: f"{line}, read {n} x" for id, (line, n) in _DROPOUT.items()},
            Axis("times that the text is read", lambda rung, row, model: row[PASSES]),
            lines={id: line for id, (line, _) in _DROPOUT.items()},
            verdicts=("dropout", "dropout-epochs"),
        ),
        Group(
            "inits", "Initial weights", "Where should training start?",
            f"{_EQUAL_BYTES} Nothing but the initial weights differs.",
            {BASE: "zero projections", **_own("inits", torch="PyTorch's own", gpt2="std 0.02",
             modern="modern", logged="the log's std 0.354")},
            verdicts=("init", "init-modern"),
        ),
        Group(
            "schedules", "Schedules", "How should the learning rate fall?",
            f"{_EQUAL_BYTES} All warm up alike; each has the peak that suits it.",
            {"schedules-constant": "constant", BASE: "cosine to a tenth",
             **_own("schedules", cosine_to_zero="cosine to zero", linear="linear to zero",
             wsd="WSD to zero")},
            verdicts=("schedule", "cosine-to-zero", "linear", "wsd"),
        ),
        Group(
            "optimizers", "Optimizers", "What should a step make of a gradient?",
            f"{_EQUAL_BYTES} Muon's products cost FLOPs of their own, which are counted.",
            {BASE: "AdamW", **_own("optimizers", muon="Muon", lion="Lion")},
            verdicts=("muon", "lion"),
        ),
        Group(
            "batch", "Batch size", "Many noisy steps, or few good ones?",
            f"{_EQUAL_BYTES} So a larger batch makes fewer steps; FLOPs are equal.",
            _numbered("batch", BATCH_WINDOWS),
            Axis("windows of a step", lambda rung, row, model: rung.batch_windows or BATCH_WINDOWS),
        ),
        Group(
            "weight-decay", "Weight decay", "How fast should weights forget?",
            f"{_EQUAL_BYTES} Decay and learning rate act as a product, so each has its own rate.",
            _numbered("weight-decay", 0.1),
            verdicts=("weight-decay",),
        ),
        Group(
            "layers", "Depth", "How deep can pre-norm blocks be stacked?",
            f"{_EQUAL_BYTES} Width is equal, so parameters and FLOPs grow with depth. The norm is "
            "the base's RMSNorm before each sub-layer.",
            _numbered("layers", 4),
            Axis("blocks", lambda rung, row, model: model["layers"]),
            verdicts=("depth",),
        ),
    )
}  # fmt: skip
"""Name -> group."""


def passes(rung: Rung, read: float, budget_bytes: float, split: float | None) -> float:
    """How often a run read its text, to two digits; a text of which it read a part, once.

    Args:
        read: bytes that it read, repeats counted.
        budget_bytes: of the run; one of n epochs has an n-th of them to read.
        split: bytes of the training split, if known.
    """
    part = budget_bytes / rung.epochs if rung.epochs > 1 else math.inf
    text = min(part, split or math.inf)
    return max(1.0, rounded(read / text, 2))


def members_of(group: Group) -> list[str]:
    """Ids of the rungs that are the group's own, and would not be trained without it."""
    return [id for id in group.ids if id in EXTENDED and EXTENDED[id].group == group.name]


def rate_of(rung: Rung) -> str:
    """How an extended rung comes by its learning rate: ``tuned``, ``inherited`` or ``scaled``."""
    if rung.equal_flops:
        return "scaled"
    return "inherited" if rung.like else "tuned"
