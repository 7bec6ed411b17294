"""Recipes of one billion parameters, and a small one of the same structure that tests can train.

``mytllm-1b`` is the shape of the log's successor: nothing in it is tuned here, and no run of it has
been made. ``mytllm-1b-modern`` spends as much on the parts that mid-2020s speed runs agree on
(nanochat, modded-nanogpt): QK-norm, ReLU^2, soft-capped logits, norms without gains, a skip from
the embedding, an untied head that starts silent, Muon for the matrices. ``mytllm-tiny`` differs
from ``mytllm-1b`` in sizes alone.

Windows are given in bytes for a plan without a text, at about 4.4 bytes a token; a run keeps the
context that stands beside them, and takes the bytes of a window from its text
(``training.text.resolve``).
"""

from __future__ import annotations

from mytnano.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig

TOKENS_1B = 20_000_000_000
"""About twenty tokens a parameter (Hoffmann et al. 2022)."""

BYTES_PER_TOKEN = 4.4
"""Of English text under a vocabulary of 65 to 100 thousand ids, roughly."""

MYTLLM_1B = RunConfig(
    model=ModelConfig(
        vocab_size=100_352, context=1536, width=1536, layers=39, heads=32, kv_heads=8,
        kernel="flash", positions="rope", ffn="swiglu", ffn_width=4224, norm="rmsnorm",
        norm_place="pre", tied=True, init="gpt2",
    ),
    data=DataConfig(
        tokenizer="cl100k", vocab_multiple=128, window_bytes=round(1536 * BYTES_PER_TOKEN)
    ),
    optim=OptimConfig(lr=3e-4, schedule="cosine", warmup=0.01, final_lr=0.1),
    train=TrainConfig(
        train_bytes=round(TOKENS_1B * BYTES_PER_TOKEN), batch_windows=320, micro_windows=8,
        precision="bf16", compile=True, device="cuda",
    ),
)  # fmt: skip
"""1,143,396,864 parameters; a batch is 491,520 tokens, forty windows on each of eight GPUs."""

MYTLLM_1B_MODERN = MYTLLM_1B.but(
    model={
        "vocab_size": 65_536, "context": 2048, "width": 2048, "layers": 18, "heads": 16,
        "kv_heads": 8, "ffn": "relu2", "ffn_width": 8192, "tied": False, "init": "modern",
        "rope_base": 100_000.0, "qk_norm": True, "softcap": 15.0, "norm_gain": False,
        "embedding_norm": True, "x0_skip": True,
    },
    data={"tokenizer": "bpe:65536", "window_bytes": round(2048 * BYTES_PER_TOKEN)},
    optim={"optimizer": "muon", "lr": 2e-3, "schedule": "linear", "final_lr": 0.0},
    train={"batch_windows": 256},
)  # fmt: skip
"""1,098,907,684 parameters; a batch is 524,288 tokens."""

MYTLLM_TINY = MYTLLM_1B.but(
    model={
        "vocab_size": 384, "context": 128, "width": 96, "layers": 3, "heads": 8, "kv_heads": 2,
        "ffn_width": 264,
    },
    data={"tokenizer": "byte", "window_bytes": 128},
    optim={"lr": 3e-3},
    train={
        "train_bytes": 50 * 8 * 128, "batch_windows": 8, "micro_windows": 2, "precision": "fp32",
        "compile": False, "device": "cpu", "evaluations": 2, "curve_bytes": 8192,
        "validation_bytes": 16_384, "test_bytes": 16_384,
    },
)  # fmt: skip
"""334,752 parameters; fifty steps of eight windows of 128 bytes, which teach it little."""

SCALE = {
    "mytllm-1b": MYTLLM_1B,
    "mytllm-1b-modern": MYTLLM_1B_MODERN,
    "mytllm-tiny": MYTLLM_TINY,
}
