"""What a run is: one frozen tree of plain values, hashed, from which everything else follows.

Each field carries its help text (shown by `mytnano explain`, in the report and in docs/settings.md)
and its role in a comparison:

* ``factor``    a design choice; a fair comparison changes exactly one;
* ``matched``   a size or budget that is set so that two designs are comparable;
* ``nuisance``  something that must not matter (seed, device, precision).

A design variant is a function ``RunConfig -> RunConfig``; see :mod:`mytnano.designs`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import pydantic

SEMANTICS = 2
"""Bumped whenever the numbers of a run move; a golden test forces the bump.

Part of every run's hash, so results of different semantics are never mixed.
"""

BF16_SEMANTICS = 4
"""The same of runs in bf16, some of whose numbers moved alone: the loss's gradient at the right
token is computed in fp32, and text is scored in bf16, as it is along the curve."""


def semantics(precision: str) -> int:
    """The number that stands for the code of runs in ``fp32`` or ``bf16``."""
    return BF16_SEMANTICS if precision == "bf16" else SEMANTICS


def setting(role: Literal["factor", "matched", "nuisance"], help: str, **constraints: Any) -> Any:
    """A field with its help text and its role in a comparison; ``default=...`` as in pydantic."""
    return pydantic.Field(description=help, json_schema_extra={"role": role}, **constraints)


class Frozen(pydantic.BaseModel):
    """Base of every config: immutable; an unknown key or a number without end is an error."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        allow_inf_nan=False,  # JSON has neither, so no file of the run could be read again
    )

    def but(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        return type(self).model_validate({**self.model_dump(), **changes})


Own = Annotated[str, pydantic.StringConstraints(pattern=r"^.+\.py:\w+$")]
"""A user's own module, ``FILE.py:CLASS``; see :mod:`mytnano.model.own`."""


def is_own(value: str) -> bool:
    """Whether a setting names a user's own module instead of one of ours."""
    return ".py:" in value


class ModelConfig(Frozen):
    """The shape and the parts of one language model."""

    vocab_size: int = setting(
        "matched", "number of token ids, end-of-document included", default=0, ge=0
    )
    context: int = setting("matched", "longest window in tokens", default=0, ge=0)
    width: int = setting("matched", "width of the residual stream (d_model)", default=128, ge=1)
    layers: int = setting("factor", "number of blocks; 0 is a bigram", default=4, ge=0)

    mixer: Literal["mean", "attention"] | Own = setting(
        "factor",
        "how a position reads earlier ones: causal mean, softmax attention, or FILE.py:CLASS",
        default="attention",
    )
    heads: int = setting("factor", "query heads", default=4, ge=1)
    kv_heads: int = setting(
        "factor", "key/value heads; fewer than heads is grouped-query attention", default=4, ge=1
    )
    kernel: Literal["explicit", "flash"] = setting(
        "factor",
        "attention arithmetic: explicit softmax, or PyTorch's fused kernel",
        default="explicit",
    )
    positions: Literal["none", "learned", "rope", "alibi"] | Own = setting(
        "factor", "position information; or FILE.py:CLASS", default="learned"
    )
    rope_base: float = setting("factor", "base of the rotary frequencies", default=10_000.0, gt=1)
    qk_norm: bool = setting(
        "factor", "divide each head's queries and keys by their root mean square", default=False
    )
    value_embeddings: bool = setting(
        "factor",
        "add a learned vector per token to the values of every second block, the last included",
        default=False,
    )

    ffn: Literal["none", "relu", "gelu", "silu", "relu2", "glu", "geglu", "swiglu"] | Own = setting(
        "factor",
        "feed-forward activation; the *glu kinds are gated; or FILE.py:CLASS",
        default="relu",
    )
    ffn_width: int = setting(
        "matched", "hidden width of the feed-forward network", default=512, ge=0
    )

    residual: bool = setting("factor", "add each sub-layer's output to its input", default=True)
    norm: Literal["none", "layernorm", "rmsnorm"] | Own = setting(
        "factor", "kind of normalisation; or FILE.py:CLASS", default="layernorm"
    )
    norm_place: Literal["pre", "post", "sandwich"] = setting(
        "factor",
        "normalise the input of each sub-layer (and of the head), or the sum after it; sandwich: "
        "the input and the output",
        default="pre",
    )
    norm_gain: bool = setting(
        "factor", "a learned gain in our norms, and a bias in LayerNorm", default=True
    )
    embedding_norm: bool = setting(
        "factor", "the design's norm also right after the token embedding", default=False
    )
    x0_skip: bool = setting(
        "factor",
        "mix the embedded tokens into the input of each block, by two learned scalars a block",
        default=False,
    )
    tied: bool = setting("factor", "share the embedding table with the head", default=False)
    softcap: float = setting(
        "factor", "largest logit, kept by a tanh; 0 is no cap", default=0.0, ge=0
    )
    init: Literal["torch", "zero-out", "gpt2", "logged", "modern"] = setting(
        "factor", "initialisation rule; the table is in mytnano.model.init", default="torch"
    )
    dropout: float = setting(
        "factor", "dropout probability on each sub-layer's output", default=0.0, ge=0, lt=1
    )
    own_code: str = setting(
        "matched", "sha256 over the files of FILE.py:CLASS; filled in by the lab", default=""
    )
    scaling: Literal["standard", "mup", "completep"] = setting(
        "factor",
        "how rates and multipliers follow the size, so that a rate tuned small serves large: not "
        "at all, over width (mup), or over width and depth (completep); mytnano.model.scaling",
        default="standard",
    )
    base_width: int = setting(
        "factor",
        "width at which scaling changes nothing: that of the tuned model",
        default=128,
        ge=1,
    )
    base_layers: int = setting(
        "factor", "blocks at which completep changes nothing", default=4, ge=1
    )

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.layers and self.mixer == "attention":
            if self.width % self.heads:
                raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
            if self.heads % self.kv_heads:
                raise ValueError(
                    f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}"
                )
            if self.positions == "rope" and (self.width // self.heads) % 2:
                raise ValueError(
                    f"rope needs an even head size; width {self.width} / heads {self.heads} is odd"
                )
        elif self.layers:
            self._only_in_attention()
        if self.ffn != "none" and self.ffn_width < 1:
            raise ValueError("ffn_width must be at least 1 when there is a feed-forward network")
        if self.norm == "none" and (self.embedding_norm or self.norm_place == "sandwich"):
            place = "embedding_norm" if self.embedding_norm else "norm_place 'sandwich'"
            raise ValueError(f"{place} places the design's norm: it needs a norm")
        return self

    def _only_in_attention(self) -> None:
        on = {
            "qk_norm": self.qk_norm,
            "value_embeddings": self.value_embeddings,
            "positions 'alibi'": self.positions == "alibi",
            # A user's mixer is given the config, and may rotate by itself.
            "positions 'rope'": self.positions == "rope" and self.mixer == "mean",
        }
        for name in (name for name, used in on.items() if used):
            raise ValueError(f"{name} acts inside attention: it needs mixer 'attention'")


class DataConfig(Frozen):
    """Which text, in which tokens, in which windows."""

    corpus: str = setting(
        "nuisance",
        "'sotu' (embedded), or a file, a folder, a .jsonl, a .parquet, 'hf:NAME', or "
        "'shards:FOLDER'",
        default="sotu",
    )
    split: str = setting(
        "nuisance", "'documents' (80/10/10 by content hash) or 'tail:FRACTION'", default="documents"
    )
    test_file: str | None = setting(
        "nuisance", "a separate file that is the test text", default=None
    )
    fingerprint: str = setting(
        "nuisance", "sha256 over the split documents; filled in when the corpus is read", default=""
    )
    tokenizer: str = setting(
        "factor", "'char', 'byte', 'bpe:SIZE', 'cl100k' or 'cl100k-compact'", default="char"
    )
    tokenizer_bytes: int = setting(
        "matched",
        "training text that a trained tokenizer may learn from, in bytes; 0 is all of it",
        default=0,
        ge=0,
    )
    text_bytes: int = setting(
        "factor",
        "training text that there is, in bytes; a run that trains on more of it reads it several "
        "times; 0 is all of it",
        default=0,
        ge=0,
    )
    window_bytes: int = setting(
        "matched", "bytes of text that one window spans on average", default=256, ge=8
    )
    cross_documents: bool = setting(
        "factor",
        "whether a training window that holds parts of several documents is read as one text; "
        "without it attention stops at the end of a document",
        default=True,
    )
    end_of_document: int = setting(
        "matched",
        "id of the symbol between documents, where they are kept apart; filled in by the text",
        default=0,
        ge=0,
    )
    vocab_multiple: int = setting(
        "matched",
        "round the model's vocabulary up to a multiple of this, with ids that no text has, for "
        "even matrix products and shards",
        default=1,
        ge=1,
    )


class OptimConfig(Frozen):
    """The optimizer and its schedule."""

    optimizer: Literal["adamw", "muon", "lion"] | Own = setting(
        "factor",
        "update rule; muon is for the matrices of the blocks, with AdamW for the rest; or "
        "FILE.py:CLASS",
        default="adamw",
    )
    lr: float = setting("matched", "peak learning rate; tuned per design", default=1e-3, gt=0)
    table_lr: float = setting(
        "factor",
        "learning rate of the embedding, position and value tables and the head, as a multiple of "
        "lr",
        default=1.0,
        gt=0,
    )
    beta1: float = setting("factor", "AdamW's and Lion's first decay", default=0.9, ge=0, lt=1)
    beta2: float = setting("factor", "AdamW's and Lion's second decay", default=0.95, ge=0, lt=1)
    momentum: float = setting("factor", "Muon's momentum", default=0.95, ge=0, lt=1)
    eps: float = setting("factor", "AdamW's denominator offset", default=1e-8, gt=0)
    weight_decay: float = setting(
        "factor", "decoupled decay of matrices (not of gains and biases)", default=0.1, ge=0
    )
    grad_clip: float = setting(
        "factor", "largest global gradient norm; 0 turns clipping off", default=1.0, ge=0
    )
    spike: float = setting(
        "factor",
        "skip a step whose loss lies this many spreads above the recent median, or is no number; "
        "0 skips none",
        default=0.0,
        ge=0,
    )
    schedule: Literal["constant", "cosine", "linear", "wsd"] = setting(
        "factor",
        "learning rate after warmup; wsd is constant until its linear decay",
        default="constant",
    )
    warmup: float = setting(
        "factor", "share of the steps that warm up linearly", default=0.0, ge=0, lt=1
    )
    final_lr: float = setting(
        "factor",
        "last learning rate of a decaying schedule, as a share of the peak",
        default=0.0,
        ge=0,
        le=1,
    )
    decay: float = setting(
        "factor", "share of the steps at the end in which wsd decays", default=0.2, gt=0, le=1
    )
    ema: float = setting(
        "factor",
        "decay of the moving average of the weights, which is then what is scored and saved; 0 is "
        "no average",
        default=0.0,
        ge=0,
        lt=1,
    )
    own_code: str = setting(
        "matched", "sha256 over the file of FILE.py:CLASS; filled in by the lab", default=""
    )

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(
                f"warmup {self.warmup:g} and decay {self.decay:g} of wsd overlap: together they "
                "are at most 1"
            )
        return self


class TrainConfig(Frozen):
    """How much is trained, on what, and from which random stream."""

    train_bytes: int = setting(
        "matched", "bytes of training text that the run sees", default=2**20, ge=1
    )
    batch_windows: int = setting("matched", "windows in one optimizer step", default=16, ge=1)
    seed: int = setting(
        "nuisance", "seed of the initial weights and of the data order", default=0, ge=0
    )
    salt: str = setting(
        "nuisance", "any text; another salt makes an A/A twin of the same seed", default=""
    )
    precision: Literal["fp32", "bf16"] = setting(
        "nuisance", "arithmetic of the matrix products", default="fp32"
    )
    compile: bool = setting("nuisance", "run through torch.compile", default=False)
    device: Literal["cpu", "cuda", "mps"] = setting("nuisance", "where it runs", default="cpu")
    fleet: bool = setting(
        "nuisance", "trained as one program with other runs of its shape", default=False
    )
    micro_windows: int = setting(
        "nuisance",
        "micro-batch size, in windows, of gradient accumulation; 0 is what suits the device",
        default=0,
        ge=0,
    )
    recompute: bool = setting(
        "nuisance",
        "activation checkpointing: keep only each block's input, recompute the rest backward",
        default=False,
    )
    evaluations: int = setting(
        "nuisance", "validation measurements along the curve", default=10, ge=1
    )
    curve_bytes: int = setting(
        "nuisance", "bytes of validation text scored on the curve", default=32_768, ge=1
    )
    validation_bytes: int = setting(
        "nuisance",
        "bytes of validation text scored at the end; 0 is all of it",
        default=262_144,
        ge=0,
    )
    score_test: bool = setting(
        "nuisance", "score the test text at the end; off while choices are still made", default=True
    )
    test_bytes: int = setting(
        "nuisance", "bytes of test text scored at the end; 0 is all of it", default=0, ge=0
    )


class RunConfig(Frozen):
    """One training run, whole."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()

    @pydantic.model_validator(mode="after")
    def _scalable(self) -> Self:
        if self.model.scaling != "standard" and self.optim.optimizer != "adamw":
            raise ValueError(
                f"scaling {self.model.scaling} has rules for adamw only, not for "
                f"{self.optim.optimizer}"
            )
        return self

    def but(self, **changes: Any) -> RunConfig:
        """A validated copy; a dict given for a section changes fields of that section.

        >>> RunConfig().but(model={"layers": 2}).model.layers
        2
        """
        merged = {
            name: {**getattr(self, name).model_dump(), **value}
            if isinstance(value, Mapping)
            else value
            for name, value in changes.items()
        }
        return super().but(**merged)

    @pydantic.model_validator(mode="after")
    def _documents_apart(self) -> Self:
        if not self.data.cross_documents and self.model.layers and self.model.mixer != "attention":
            raise ValueError("only attention can keep documents apart: set data.cross_documents")
        return self

    @property
    def steps(self) -> int:
        """Optimizer steps: the byte budget over the bytes of one batch, rounded, at least one."""
        return max(
            1, round(self.train.train_bytes / (self.train.batch_windows * self.data.window_bytes))
        )

    @property
    def hash(self) -> str:
        """Twelve hex digits over :func:`semantics` and every field: equal hash, equal run.

        Fields at their default are left out, so that a setting added later, whose default is what
        was done before, leaves the hashes of earlier runs alone. A default that changes must raise
        ``SEMANTICS``; the golden test sees to that.
        """
        fields = self.model_dump(exclude_defaults=True)
        canonical = json.dumps([semantics(self.train.precision), fields], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def role(section: type[Frozen], field: str) -> str:
    """The declared role of a field: ``factor``, ``matched`` or ``nuisance``."""
    return section.model_fields[field].json_schema_extra["role"]  # type: ignore[index,return-value]
