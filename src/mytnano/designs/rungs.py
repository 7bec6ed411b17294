"""The ladder: every rung of the log as one change to an earlier rung.

A rung is a value: an id, the rung it starts from, and a function ``RunConfig -> RunConfig``.
:func:`design` applies the functions from the root down. Rungs of the group ``core`` form the
ladder; ``as-logged`` rungs repeat a defect of the original project on purpose, so that its number
can be shown next to a fair one; ``depth`` rungs are the cells of the depth figure. The rungs of the
extended groups, which start from the final design, are in :mod:`mytnano.designs.families`.
"""

from __future__ import annotations

from mytnano.config import ModelConfig, RunConfig
from mytnano.designs.families import EXTENDED
from mytnano.designs.groups import WIDER_GROUPS
from mytnano.designs.rung import Logged, Rung, model, optim, swiglu_width, tokenizer
from mytnano.errors import UserError

ROOT = RunConfig(
    model=ModelConfig(
        width=128, layers=0, heads=1, kv_heads=1, mixer="mean", positions="none",
        ffn="none", ffn_width=0, residual=False, norm="none", norm_place="post",
        tied=False, init="torch",
    )
)  # fmt: skip
"""A bigram: each token's embedding goes straight to the head."""

BEST_BPE = "bpe:8192"
"""Best size on validation at budget ``quick``, whose 1 MiB of text supports no larger power of two.

The sweep is in ``vocabulary.json`` beside this file.
"""

CORE = [
    Rung(
        "bigram", "Bigram", None, lambda config: config,
        "The next token from the current one alone: the floor that any use of context must beat.",
        "Shannon 1948; Bengio et al. 2003",
        Logged("Bigram", 2.4640, 0.2850, "Baseline (Context=1)"),
        code=("model.transformer.Transformer",),
    ),
    Rung(
        "average", "Averaged context", "bigram", model(layers=1),
        "A causal mean of all embeddings, the current one being one of many: a bag of words.",
        "Iyyer et al. 2015 (deep averaging)",
        code=("model.transformer.Mean",),
    ),
    Rung(
        "average-current", "Average + current token", "average", model(residual=True),
        "The same mean, with the current token on a path of its own.",
        "Iyyer et al. 2015",
        code=("model.transformer.Block.sublayer",),
    ),
    Rung(
        "average-positions", "Average + positions", "average", model(positions="learned"),
        "The log's own averaging arm: it also adds learned positions, "
        "so missing order is not why it fails.",
        "Gehring et al. 2017",
        Logged("Averaged Context", 2.4619, 0.2853, "Bag-of-words context beats the bigram"),
        code=("model.transformer.Transformer",),
    ),
    Rung(
        "attention", "Single-head attention", "average-positions", model(mixer="attention"),
        "The weights of the mean become a learned function of the tokens.",
        "Bahdanau et al. 2015; Vaswani et al. 2017",
        Logged(
            "Single-Head Attention", 2.4578, 0.2859,
            "Learned, dynamic context is empirically superior",
        ),
        code=("model.transformer.Attention", "model.attention.attention_weights"),
    ),
    Rung(
        "multi-head", "Multi-head attention", "attention", model(heads=4, kv_heads=4),
        "Four heads of 32 instead of one of 128, at the same number of parameters.",
        "Vaswani et al. 2017",
        Logged(
            "Multi-Head Attention", 2.4623, None,
            "Slightly worse than one head (not in the summary's tables)",
        ),
        code=("model.transformer.Attention",),
    ),
    Rung(
        "block", "One block: attention + FFN", "multi-head", model(ffn="relu", ffn_width=512),
        "A feed-forward network after the attention: a complete Transformer block, "
        "still without residual paths.",
        "Vaswani et al. 2017",
        Logged("1-Layer Transformer Block", 2.4618, 0.2853, "MHA + FFN (ReLU)"),
        code=("model.transformer.FeedForward",),
    ),
    Rung(
        "stack", "Four stacked blocks", "block", model(layers=4),
        "Depth without residual paths or norms: the log's critical failure.",
        "Dong et al. 2021; Noci et al. 2022",
        Logged(
            "4-Layer Stacked Blocks", 2.4622, 0.2852,
            "No signs of learning due to the vanishing gradient problem",
        ),
        code=("model.transformer.Transformer",),
    ),
    Rung(
        "residual", "+ residual paths", "stack", model(residual=True),
        "Each sub-layer adds to the stream instead of replacing it.",
        "He et al. 2016",
        Logged(
            "Residual connections", 2.4611, None,
            "Essential enablers for deep models (not in the summary's tables)",
        ),
        code=("model.transformer.Block.sublayer",),
    ),
    Rung(
        "post-norm", "+ post-LayerNorm", "residual", model(norm="layernorm"),
        "LayerNorm after each addition, as in the original Transformer.",
        "Ba et al. 2016; Vaswani et al. 2017",
        Logged(
            "Post-LayerNorm", 2.4629, None,
            "Non-negotiable enabler of depth (not in the summary's tables)",
        ),
        code=("model.norms.build_norm", "model.transformer.Block.sublayer"),
    ),
    Rung(
        "pre-norm", "pre-LayerNorm", "post-norm", model(norm_place="pre"),
        "LayerNorm on each sub-layer's input and before the head; the stream itself stays free. "
        "The log's 'pre-LN' was not this.",
        "Xiong et al. 2020",
        Logged("Baseline Transformer", 11.7760, None, "Character-level tokenizer"),
        code=("model.transformer.Block.sublayer", "model.transformer.Transformer.encode"),
    ),
    Rung(
        "cl100k", "characters -> cl100k_base", "pre-norm", tokenizer("cl100k-compact"),
        "Tokens of about five bytes from GPT-4's vocabulary, kept to the ids that the training "
        "text uses.",
        "Sennrich et al. 2016",
        Logged("Tokenizer Upgrade", 7.9622, None, "Massive loss reduction from tokenizer alone"),
        code=("text.cl100k",),
    ),
    Rung(
        "bpe", "characters -> trained BPE", "pre-norm", tokenizer(BEST_BPE),
        "A byte-pair vocabulary trained on this text, of the size that validated best among those "
        "tried, or the largest below it that the text supports.",
        "Sennrich et al. 2016; Tao et al. 2024",
        code=("text.bpe",),
    ),
    Rung(
        "rmsnorm", "LayerNorm -> RMSNorm", "bpe", model(norm="rmsnorm"),
        "Scale without centring.",
        "Zhang & Sennrich 2019",
        Logged("RMSNorm", 7.9585, None, "Faster and slightly better than LayerNorm"),
        code=("model.norms.RMSNorm",),
    ),
    Rung(
        "swiglu", "ReLU -> SwiGLU", "rmsnorm", 
        model(ffn="swiglu", ffn_width=swiglu_width(ROOT.model.width)),
        "A gated feed-forward network at matched parameters.",
        "Shazeer 2020",
        Logged("SwiGLU", 7.9543, None, "Clear winner, best performance"),
        code=("model.transformer.FeedForward",),
    ),
    Rung(
        "flash", "explicit -> flash attention", "swiglu", model(kernel="flash"),
        "The fused kernel, for which the T x T matrix is never whole in memory. On a CPU, windows "
        "of up to 64 tokens take the explicit path, so there this row repeats swiglu bit for bit; "
        "what the kernel is worth is in the cost of attention.",
        "Dao et al. 2022",
        Logged("Flash Attention", 7.9606, None, "Identical performance, huge speed/memory gain"),
        code=("model.attention.fused_attention",),
    ),
    Rung(
        "rope", "learned positions -> RoPE", "flash", model(positions="rope"),
        "Positions as rotations of queries and keys, so that scores depend on distance.",
        "Su et al. 2021",
        code=("model.transformer.rotate", "model.transformer.build_tables"),
    ),
    Rung(
        "gqa", "MHA -> grouped-query attention", "rope", model(kv_heads=2),
        "Two key/value heads serve four query heads: half of the cache at inference.",
        "Ainslie et al. 2023",
        Logged("GQA", 7.9606, None, "Free, zero loss in quality (not in the summary's tables)"),
        code=("model.transformer.Attention.project",),
    ),
    Rung(
        "init", "+ zero-init output projections", "gqa", model(init="zero-out"),
        "The matrices that write into the residual stream start at zero, so that every block "
        "starts as the identity.",
        "Goyal et al. 2017; Zhang et al. 2019 (Fixup)",
        code=("model.init.initial_value",),
    ),
    Rung(
        "mytnano", "mytNano: + warmup and cosine", "init",
        optim(schedule="cosine", warmup=0.05, final_lr=0.1),
        "The log's final design, complete, under the trained BPE.",
        "Loshchilov & Hutter 2017",
        Logged("mytNano (Final Model)", 7.4214, None, "All optimizations + training stability"),
        code=("training.schedule.learning_rate",),
    ),
    Rung(
        "mytnano-cl100k", "mytNano under cl100k_base", "mytnano", tokenizer("cl100k-compact"),
        "The log's final design under the log's tokenizer.",
        "Sennrich et al. 2016",
        Logged("mytNano (Final Model)", 7.4214, None, "Final BPC 10.7068, which is bits per token"),
        code=("text.cl100k",),
    ),
]  # fmt: skip

AS_LOGGED = [
    Rung(
        "logged-lr", "block at LR 1e-5", "block", optim(lr=1e-5),
        "The log's stages 2 to 5 ran at a constant 1e-5 or 2e-5 for every design.",
        logged=Logged("1-Layer Transformer Block", 2.4618, 0.2853), group="as-logged",
    ),
    Rung(
        "logged-two-blocks", "'four' stacked blocks, really two", "block", model(layers=2),
        "The script of the log's four-layer failure sets Nx=2.",
        logged=Logged("4-Layer Stacked Blocks", 2.4622, 0.2852), group="as-logged",
    ),
    Rung(
        "logged-dropout", "pre-norm with dropout 0.5", "pre-norm", model(dropout=0.5),
        "The log trained less than six epochs with half of all activations dropped.",
        logged=Logged("Dropout", 2.4623), group="as-logged",
    ),
    Rung(
        "logged-init", "pre-norm, tied, every matrix at std 0.354", "pre-norm",
        model(tied=True, init="logged"),
        "From stage 7 on the residual factor 1/sqrt(2N) was every matrix's standard deviation.",
        logged=Logged("Baseline Transformer", 11.7760), group="as-logged",
    ),
    Rung(
        "logged-final-init", "mytNano with every matrix at std 0.02", "mytnano", model(init="gpt2"),
        "The initialisation that the log credits with its final drop in loss.",
        "Radford et al. 2019",
        logged=Logged("mytNano (Final Model)", 7.4214), group="as-logged",
    ),
]  # fmt: skip

DEPTHS = (1, 2, 4, 8)
DEPTH_RATES = (5e-4, 2e-3, 8e-3)
"""Learning rates of every cell of the depth figure: whether depth fails must not hang on one."""


def depth_cell(parent: str, layers: int, lr: float) -> Rung:
    """One cell of the depth figure: ``stack`` or ``residual`` at another depth and rate."""
    path = "residual" if parent == "residual" else "plain"
    return Rung(
        f"depth-{path}-{layers}-{lr:g}", f"{layers} blocks, {path}, LR {lr:g}", parent,
        lambda config: config.but(model={"layers": layers}, optim={"lr": lr}),
        "A cell of the depth figure.", group="depth",
    )  # fmt: skip


DEPTH = [
    depth_cell(parent, n, lr)
    for parent in ("stack", "residual")
    for n in DEPTHS
    for lr in DEPTH_RATES
]

LONG = [
    Rung(
        "mytnano-long", "mytNano, larger and for longer", "mytnano",
        lambda config: config.but(
            model={"width": 192, "layers": 6, "heads": 6, "kv_heads": 3, "ffn_width": 512},
            data={"window_bytes": 512},
            train={"batch_windows": 16},
            optim={"lr": 3e-3},
        ),
        "The final design, larger and with more text, to stand against xz and the 5-gram.",
        "Kaplan et al. 2020; Hoffmann et al. 2022",
        group="long",
    ),
]  # fmt: skip

RUNGS = {rung.id: rung for rung in [*CORE, *AS_LOGGED, *DEPTH, *LONG]}
"""The ladder of the log."""

GROUPS = ("core", "as-logged", "depth", "long")

KNOWN = RUNGS | EXTENDED
"""Every rung: the ladder, and after it the extended groups."""


def lineage(id: str) -> list[Rung]:
    """The rungs from the root to ``id``, both included."""
    rung = KNOWN[id]
    return [*(lineage(rung.parent) if rung.parent else []), rung]


def design(id: str, root: RunConfig = ROOT) -> RunConfig:
    """``root`` after every change of the rung's lineage; no learning rate, seed or budget yet."""
    config = root
    for rung in lineage(id):
        config = rung.change(config)
    return config


def select(names: list[str]) -> list[Rung]:
    """The rungs that ids and group names stand for, in ladder order.

    An extended group stands for its members, rungs of the core ladder among them.

    Raises:
        UserError: a name that is neither.
    """
    for name in names:
        if name not in KNOWN and name not in GROUPS and name not in WIDER_GROUPS:
            ids = ", ".join(rung.id for rung in CORE)
            groups = ", ".join([*GROUPS, *WIDER_GROUPS])
            raise UserError(f"'{name}' is not a rung or a group; rungs: {ids}; groups: {groups}")
    members = {id for name in names if name in WIDER_GROUPS for id in WIDER_GROUPS[name].ids}
    wanted = members.union(names)
    return [rung for rung in KNOWN.values() if rung.id in wanted or rung.group in names]


def difference(id: str) -> dict[str, tuple[object, object]]:
    """What a rung's design changes: ``section.field`` -> (parent's value, its value).

    Nothing for the root. What it changes of the run is in :mod:`mytnano.designs.changes`.
    """
    parent = KNOWN[id].parent
    return config_difference(design(parent), design(id)) if parent else {}


def config_difference(one: RunConfig, other: RunConfig) -> dict[str, tuple[object, object]]:
    """``section.field`` -> (value in one, value in the other) of every setting that differs."""
    before, after = one.model_dump(), other.model_dump()
    return {
        f"{section}.{name}": (before[section][name], value)
        for section in after
        for name, value in after[section].items()
        if before[section][name] != value
    }
