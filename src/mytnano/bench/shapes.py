"""What is raced: three shapes, and who takes part.

A shape is a model's size and a batch. On each, our engine trains two designs: ``gpt2``, which is
what nanoGPT trains (learned positions, pre-LayerNorm, GELU, tied head), and ``mytnano``, which is
what Hugging Face Llama trains (RoPE, pre-RMSNorm, SwiGLU, grouped-query attention, untied head).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mytnano.config import ModelConfig
from mytnano.designs.rung import swiglu_width

Design = Literal["gpt2", "mytnano"]
Family = Literal["mytNano", "nanoGPT", "HF Llama"]
Precision = Literal["fp32", "bf16"]
"""The engine's own precisions; peers also run under autocast."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model and of the batch of one optimizer step (windows x context tokens)."""

    name: str
    vocabulary: int
    width: int
    heads: int
    layers: int
    windows: int
    context: int

    @property
    def tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.windows * self.context


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("B", vocabulary=128, width=128, heads=4, layers=4, windows=64, context=128),
        Shape("C", vocabulary=4096, width=256, heads=4, layers=6, windows=16, context=256),
        Shape("D", vocabulary=100_352, width=256, heads=4, layers=8, windows=8, context=256),
    )
}

LARGE_VOCABULARY = 50_000
"""From here on our engine is also timed with the vocabulary cut to the ids that a corpus uses."""


@dataclass(frozen=True)
class Contestant:
    """One way to train one shape.

    Attributes:
        precision: ``fp32``; ``autocast`` (fp32 weights, bf16 products); or ``bf16`` (bf16 weights).
        compact: the vocabulary holds only the ids that the corpus uses; lossless, but easier.
        huge_pages: torch takes large arrays from the system in pages of 2 MB.
    """

    family: Family
    design: Design
    shape: Shape
    precision: Literal["fp32", "autocast", "bf16"]
    compiled: bool = False
    compact: bool = False
    huge_pages: bool = False

    @property
    def label(self) -> str:
        """What the table calls it."""
        words = [self.family, self.design] if self.family == "mytNano" else [self.family]
        words += ["compiled" if self.compiled else "eager", self.precision]
        if self.compact:
            words.append(f"compact V={self.shape.vocabulary}")
        if self.huge_pages and self.family != "mytNano":
            words.append("huge pages")
        return " ".join(words)

    @property
    def model(self) -> ModelConfig:
        """The design at this shape, which is also what a peer's operations are counted by."""
        return model_config(self.design, self.shape)


def model_config(design: Design, shape: Shape) -> ModelConfig:
    """``gpt2`` or ``mytnano`` at the sizes of a shape."""
    sizes = {
        "vocab_size": shape.vocabulary,
        "context": shape.context,
        "width": shape.width,
        "layers": shape.layers,
        "heads": shape.heads,
        "kernel": "flash",
    }
    if design == "gpt2":
        return ModelConfig(
            **sizes, kv_heads=shape.heads, ffn="gelu", ffn_width=4 * shape.width,
            tied=True, init="gpt2",
        )  # fmt: skip
    return ModelConfig(
        **sizes, kv_heads=shape.heads // 2, positions="rope", norm="rmsnorm",
        ffn="swiglu", ffn_width=swiglu_width(shape.width), init="zero-out",
    )  # fmt: skip


def contestants(
    shape: Shape, precision: Precision, peers: set[Family], compact: int | None
) -> list[Contestant]:
    """Everybody who races on a shape.

    Args:
        precision: our engine's, from its own probe of this machine. Where bf16 does not pay the
            peers are spared it too: it would only slow them down.
        peers: which of nanoGPT and HF Llama can run here.
        compact: number of ids that the corpus uses, for shapes with a large vocabulary.
    """
    ours = [
        Contestant("mytNano", design, shape, precision, compiled, huge_pages=True)
        for design in ("gpt2", "mytnano")
        for compiled in (False, True)
    ]
    if compact and shape.vocabulary >= LARGE_VOCABULARY:
        smaller = replace(shape, vocabulary=compact)
        ours += [replace(one, shape=smaller, compact=True) for one in ours]
    low = precision == "bf16"
    nanogpt = Contestant("nanoGPT", "gpt2", shape, "autocast" if low else "fp32", compiled=True)
    llama = Contestant("HF Llama", "mytnano", shape, precision, compiled=True)
    theirs = [Contestant("nanoGPT", "gpt2", shape, "fp32")]
    theirs += [nanogpt, replace(nanogpt, huge_pages=True)]
    theirs += [replace(llama, precision="autocast")] if low else []
    theirs += [llama, replace(llama, huge_pages=True)]
    return [one for one in theirs if one.family in peers] + ours
