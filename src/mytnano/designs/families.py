"""The rungs of the extended groups: families of one change to the ladder's final design.

The parent is ``mytnano``, the last core rung: a recommendation is to hold for the design that one
would use, it has every part that a group changes, and its runs are those of the ladder. Where its
zero-initialised projections would decide a comparison beforehand (a norm after a zero matrix, a
head that is the embedding table), the parent is a rung of the group ``inits``, which is said there.

A rung's learning rate is tuned, unless ``like`` names the core rung whose own sweep shows that such
a change leaves the rate where it was; see docs/groups.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from mytnano.config import RunConfig
from mytnano.designs.rung import Change, Rung, model, optim, swiglu_width, tokenizer

BASE = "mytnano"
"""The rung that the extended groups start from."""

WIDTH = 128
"""Of the base."""

FFN_WIDTH = swiglu_width(WIDTH)
"""Of its gated feed-forward network."""

TWO_MATRICES = 516
"""Hidden width at which two matrices have exactly the parameters of three of ``FFN_WIDTH``."""

VOCABULARIES = (512, 1024, 2048, 4096, 8192, 16_384, 30_720)
"""Of a trained BPE; the last is the largest multiple of 1,024 that the embedded corpus supports,
which has pairs for 31,716 tokens."""
MIDDLE = "tokenizers-8192"
"""The rung whose training FLOPs the others of its group are also given; on a text that supports no
vocabulary of its size, the largest below it, see :func:`stand_ins`."""

FFN_FACTORS = (1, 2, 3, 5, 6)
BATCHES = (1, 2, 8, 16, 32)
DECAYS = (0.0, 0.01, 0.03, 0.3, 1.0)
LAYERS = (1, 2, 8, 16, 32)
EPOCHS = (4, 16)
DROPOUTS = (0.1, 0.3)

FEED_FORWARD = ("model.transformer.FeedForward",)
OPTIMIZERS = ("training.optimizers.build_optimizer",)


def sizes() -> Iterable[Rung]:
    """Width, blocks, heads and feed-forward network together: a size is one change."""
    for name, width, layers in (("small", 64, 2), ("large", 192, 6), ("xlarge", 256, 8)):
        heads = width // 32
        changes = {
            "width": width, "layers": layers, "heads": heads, "kv_heads": heads // 2,
            "ffn_width": swiglu_width(width),
        }  # fmt: skip
        yield Rung(
            f"sizes-{name}", f"{width} wide, {layers} blocks", BASE, model(**changes),
            "What more parameters buy from the same text.",
            "Kaplan et al. 2020; Hoffmann et al. 2022", group="sizes",
            code=("model.transformer.Transformer",),
        )  # fmt: skip


def gated_width(factor: float) -> int:
    """Hidden width of three matrices with the parameters of two of ``factor`` times the base's
    width, to the nearest multiple of 8."""
    return 8 * round(factor * WIDTH * 2 / 3 / 8)


def tokenizers() -> Iterable[Rung]:
    """Every vocabulary at equal bytes, and again at the FLOPs of the middle one.

    All learn from the whole training text, as the largest need more than a short run's.
    """
    known = [("byte", "byte"), ("char", "char"), *((str(n), f"bpe:{n}") for n in VOCABULARIES)]
    why = "How long the steps of the text are: shorter ones cost more of them, longer ones a table."
    paper = "Sennrich et al. 2016; Tao et al. 2024"
    for name, vocabulary in known:
        yield Rung(
            f"tokenizers-{name}", f"{vocabulary} tokens", BASE, tokenizer(vocabulary), why, paper,
            group="tokenizers", code=("text.tokenizers.build_tokenizer",),
        )  # fmt: skip
    for name, parent in [*((n, f"tokenizers-{n}") for n, _ in known), ("cl100k", f"{BASE}-cl100k")]:
        if parent == MIDDLE:
            continue
        yield Rung(
            f"tokenizers-{name}-flops", f"{name} tokens, equal FLOPs", parent, unchanged,
            "The same vocabulary with as many bytes as the FLOPs of the middle one pay for.", paper,
            group="tokenizers", code=("measure.flops.training_flops",), equal_flops=MIDDLE,
        )  # fmt: skip


def stand_ins(middle: str) -> list[str]:
    """The rungs that may stand for the middle vocabulary, itself first and then smaller ones."""
    group, _, most = middle.rpartition("-")
    return [f"{group}-{n}" for n in sorted(VOCABULARIES, reverse=True) if n <= int(most)]


def unchanged(config: RunConfig) -> RunConfig:
    """The parent's design: what differs is set with the budget."""
    return config


def activations() -> Iterable[Rung]:
    """Two matrices with an activation, or three with a gate, at equal parameters."""
    for kind, paper in (
        ("relu", "Vaswani et al. 2017"),
        ("gelu", "Hendrycks & Gimpel 2016"),
        ("silu", "Ramachandran et al. 2017"),
        ("relu2", "So et al. 2021 (Primer)"),
    ):
        yield _activation(kind, model(ffn=kind, ffn_width=TWO_MATRICES), paper)
    for kind in ("glu", "geglu"):
        yield _activation(kind, model(ffn=kind), "Dauphin et al. 2017; Shazeer 2020")


def _activation(kind: str, change: Change, paper: str) -> Rung:
    return Rung(
        f"activations-{kind}", f"SwiGLU -> {kind}", BASE, change,
        "What bends the feed-forward network, at the same number of parameters.", paper,
        group="activations", code=FEED_FORWARD,
    )  # fmt: skip


def ffn_widths() -> Iterable[Rung]:
    """The feed-forward network's hidden width; the base's is 4 x, counted as two matrices."""
    for factor in FFN_FACTORS:
        yield Rung(
            f"ffn-width-{factor}x", f"feed-forward {factor} x", BASE,
            model(ffn_width=gated_width(factor)),
            "How much of a block should be feed-forward; parameters and FLOPs grow with it.",
            "Vaswani et al. 2017; Kaplan et al. 2020", group="ffn-width", code=FEED_FORWARD,
        )  # fmt: skip


def kv_heads() -> Iterable[Rung]:
    """Key/value heads of four query heads: all, the base's two, and one."""
    for heads, name, paper in ((4, "mha", "Vaswani et al. 2017"), (1, "mqa", "Shazeer 2019")):
        yield Rung(
            f"kv-heads-{name}", f"{heads} key/value head{'s' * (heads > 1)}", BASE,
            model(kv_heads=heads),
            "The cache of a generated token holds the key/value heads alone.", paper,
            group="kv-heads", code=("model.transformer.Attention.project",), like="gqa",
        )  # fmt: skip


def norms() -> Iterable[Rung]:
    """Kind, gain and place of the norm."""
    for name, title, parent, change, paper, like in (
        ("layernorm", "LayerNorm", BASE, model(norm="layernorm"), "Ba et al. 2016", "rmsnorm"),
        ("layernorm-no-gain", "LayerNorm without gain", "norms-layernorm", model(norm_gain=False),
         "Xu et al. 2019", None),
        ("no-gain", "RMSNorm without gain", BASE, model(norm_gain=False),
         "Zhang & Sennrich 2019; modded-nanogpt", None),
        ("post", "RMSNorm after the sum", BASE, model(norm_place="post"), "Vaswani et al. 2017",
         None),
        ("qk", "QK-norm", BASE, model(qk_norm=True), "Henry et al. 2020; Dehghani et al. 2023",
         None),
        ("sandwich", "RMSNorm before and after", "inits-torch", model(norm_place="sandwich"),
         "Ding et al. 2021; Gemma 2", None),
    ):  # fmt: skip
        yield Rung(
            f"norms-{name}", title, parent, change,
            "Which scale activations are kept to, and where.", paper,
            group="norms", code=("model.norms.build_norm", "model.transformer.Block.sublayer"),
            like=like,
        )  # fmt: skip


def positions() -> Iterable[Rung]:
    """What tells the order of tokens; the base's is RoPE."""
    for kind, title, paper in (
        ("learned", "learned positions", "Gehring et al. 2017"),
        ("alibi", "ALiBi", "Press et al. 2022"),
        ("none", "no positions", "Haviv et al. 2022; Kazemnejad et al. 2023"),
    ):
        yield Rung(
            f"positions-{kind}", title, BASE, model(positions=kind),
            "How attention learns what came when; the causal mask alone tells something.", paper,
            group="positions", code=("model.transformer.build_tables",),
        )  # fmt: skip


def tying() -> Iterable[Rung]:
    """One table or two, from weights of std 0.02: N(0, 1) suits an embedding but no head."""
    yield Rung(
        "tying-tied", "tied tables, std 0.02", "inits-gpt2", model(tied=True),
        "Embedding and head as one table: half of a small model's parameters.",
        "Press & Wolf 2017; Inan et al. 2017", group="tying",
        code=("model.transformer.Transformer",),
    )  # fmt: skip


def dropouts() -> Iterable[Rung]:
    """Dropout where the text is read once, 4 and 16 times, at equal bytes read."""
    for epochs in (1, *EPOCHS):
        parent = BASE if epochs == 1 else f"dropout-{epochs}-epochs"
        if epochs > 1:
            yield _dropout(parent, f"the text {epochs} times", BASE, unchanged, epochs)
        for share in DROPOUTS:
            name = f"dropout-{share:g}" + (f"-{epochs}-epochs" if epochs > 1 else "")
            title = f"dropout {share:g}" + (f", the text {epochs} times" if epochs > 1 else "")
            yield _dropout(name, title, parent, model(dropout=share), epochs)


def _dropout(id: str, title: str, parent: str, change: Change, epochs: int) -> Rung:
    return Rung(
        id, title, parent, change,
        "Whether dropping activations pays when the same text is read again and again.",
        "Srivastava et al. 2014; Muennighoff et al. 2023", group="dropout",
        code=("model.transformer.Block.sublayer",), epochs=epochs,
    )  # fmt: skip


def inits() -> Iterable[Rung]:
    """The table of :mod:`mytnano.model.init`; the base's is ``zero-out``."""
    for kind, title, paper in (
        ("torch", "PyTorch's own", "He et al. 2015"),
        ("gpt2", "std 0.02, residual scaled", "Radford et al. 2019"),
        ("modern", "kept scale, silent projections", "nanochat; modded-nanogpt"),
        ("logged", "the log's: every matrix at std 0.354", "none: the log's mistake"),
    ):
        yield Rung(
            f"inits-{kind}", title, BASE, model(init=kind),
            "Where training starts.", paper, group="inits", code=("model.init.initial_value",),
        )  # fmt: skip


def schedules() -> Iterable[Rung]:
    """Shapes of the learning rate after the same warmup; the base's cosine ends at a tenth."""
    to_zero = "schedules-cosine-to-zero"
    for id, title, parent, change, paper in (
        ("schedules-constant", "constant", BASE, optim(schedule="constant"), "Hu et al. 2024"),
        (to_zero, "cosine to zero", BASE, optim(final_lr=0.0), "Loshchilov & Hutter 2017"),
        ("schedules-linear", "linear to zero", to_zero, optim(schedule="linear"),
         "Bergsma et al. 2025"),
        ("schedules-wsd", "constant, then a fifth linear to zero", to_zero, optim(schedule="wsd"),
         "Hu et al. 2024; Hägele et al. 2024"),
    ):  # fmt: skip
        yield Rung(
            id, title, parent, change, "How the learning rate falls, each at its own peak.", paper,
            group="schedules", code=("training.schedule.learning_rate",),
        )  # fmt: skip


def optimizers() -> Iterable[Rung]:
    """Update rules; Lion with the second decay of its paper."""
    for kind, title, change, paper in (
        ("muon", "Muon for the matrices", optim(optimizer="muon"), "Jordan et al. 2024"),
        ("lion", "Lion", optim(optimizer="lion", beta2=0.99), "Chen et al. 2023"),
    ):
        yield Rung(
            f"optimizers-{kind}", title, BASE, change,
            "What a step makes of a gradient; the base's is AdamW.", paper,
            group="optimizers", code=OPTIMIZERS,
        )  # fmt: skip


def batches() -> Iterable[Rung]:
    """Windows of a step, from the same text: a larger batch makes fewer steps."""
    for windows in BATCHES:
        yield Rung(
            f"batch-{windows}", f"{windows} window{'s' * (windows > 1)} a step", BASE, unchanged,
            "Many noisy steps or few good ones; the base's are of 4 windows.",
            "McCandlish et al. 2018; Bergsma et al. 2025", group="batch",
            code=("text.batches.Windows.starts",), batch_windows=windows,
        )  # fmt: skip


def weight_decays() -> Iterable[Rung]:
    """Decoupled decay of matrices and tables; the base's is 0.1."""
    for decay in DECAYS:
        yield Rung(
            f"weight-decay-{decay:g}", f"weight decay {decay:g}", BASE, optim(weight_decay=decay),
            "How fast weights forget, at a learning rate of each decay's own.",
            "Loshchilov & Hutter 2019", group="weight-decay", code=OPTIMIZERS,
        )  # fmt: skip


def layers() -> Iterable[Rung]:
    """Pre-norm blocks with residual paths, 1 to 32; the base has 4."""
    for count in LAYERS:
        yield Rung(
            f"layers-{count}", f"{count} block{'s' * (count > 1)}", BASE, model(layers=count),
            "Depth where norms and residual paths carry it; parameters grow with it.",
            "Xiong et al. 2020; Wang et al. 2022", group="layers",
            code=("model.transformer.Transformer",),
        )  # fmt: skip


EXTENDED = {
    rung.id: rung
    for family in (
        inits, sizes, tokenizers, activations, ffn_widths, kv_heads, norms, positions, tying,
        dropouts, schedules, optimizers, batches, weight_decays, layers,
    )
    for rung in family()
}  # fmt: skip
"""Every rung outside the ladder of the log; parents before children."""
