"""Losses and defaults that the golden test remembers: ``python tests/golden.py`` writes them anew.

It refuses as long as ``SEMANTICS`` is not bumped, if the numbers or a known default moved.
"""

import json
import math
import sys
from pathlib import Path

import torch
from model_toys import HEALTHY, PARTS, alphabet_tokenizer, text_of, toy_run, words

from mytnano.config import SEMANTICS, RunConfig
from mytnano.text.batches import Windows
from mytnano.training.engine import Engine
from mytnano.training.schedule import learning_rate

FILE = Path(__file__).with_name("golden.json")
STEPS = 20
EMPTY = {"semantics": 0, "defaults": {}, "losses": {}}
EXPLICIT = {"mixer": "attention", "heads": 2, "kv_heads": 2, "positions": "learned", "width": 24}
CONFIGS = {
    "mean": {"model": {"width": 24, "layers": 1, "positions": "learned"}},
    "attention": {"model": {**EXPLICIT, "layers": 2, "ffn": "relu", "ffn_width": 48}},
    "post-layernorm, tied, cosine": {
        "model": {
            **EXPLICIT, "layers": 2, "ffn": "gelu", "ffn_width": 48, "residual": True,
            "norm": "layernorm", "tied": True, "init": "gpt2",
        },
        "optim": {"schedule": "cosine", "warmup": 0.2},
    },
    "pre-rmsnorm, relu2, logged": {
        "model": {
            **EXPLICIT, "layers": 2, "ffn": "relu2", "ffn_width": 48, "residual": True,
            "norm": "rmsnorm", "norm_place": "pre", "init": "logged",
        },
    },
    "swiglu, rope, gqa, flash": {"model": HEALTHY},
    "swiglu, rope, gqa, flash in bf16": {"model": HEALTHY, "train": {"precision": "bf16"}},
    "every part, modern, muon, wsd": {
        "model": {**HEALTHY, **PARTS["all"], "layers": 3},
        "optim": {"optimizer": "muon", "table_lr": 4.0, "schedule": "wsd", "decay": 0.5},
    },
    "alibi, sandwich, no gain, lion, linear": {
        "model": {
            **HEALTHY, "positions": "alibi", "norm_place": "sandwich", "norm_gain": False,
            "init": "torch",
        },
        "optim": {"optimizer": "lion", "schedule": "linear", "warmup": 0.2},
    },
    "x0, values, softcap, tied": {
        "model": {
            **HEALTHY, "x0_skip": True, "value_embeddings": True, "softcap": 15.0, "tied": True,
            "init": "modern",
        },
    },
}  # fmt: skip


def losses(name: str) -> list[float]:
    """Training losses of the first steps of one tiny config, in nats per token."""
    splits = [words(12, 700, seed=0), words(2, 700, seed=1), words(2, 700, seed=2)]
    text = text_of(splits, alphabet_tokenizer(splits))
    config = toy_run(text, STEPS, window=72, **CONFIGS[name])
    config = config.but(optim={"lr": 3e-3})
    train = config.train
    batches = Windows(
        text.train, 72, config.model.context, train.batch_windows, train.seed, train.salt
    )
    engine = Engine(config)
    measured = []
    for step in range(STEPS):
        x, y = (torch.from_numpy(ids) for ids in batches.batch(step))
        measured.append(engine.gradients(x, y).item())
        engine.update(learning_rate(config.optim, step, STEPS))
    return measured


def tolerance(name: str) -> float:
    """Largest relative difference between machines.

    bf16 products differ more, and so do steps that follow the sign or the direction of a gradient
    however small it is.
    """
    if "bf16" in name:
        return 3e-3
    return 3e-4 if "muon" in name or "lion" in name else 1e-5


def moved(name: str, before: list[float], now: list[float]) -> bool:
    """Whether losses differ by more than machines do."""
    pairs = zip(before, now, strict=True)
    return not all(math.isclose(a, b, rel_tol=tolerance(name)) for a, b in pairs)


def defaults() -> dict[str, object]:
    """``section.field`` -> default: the fields that a run's hash leaves out."""
    return {
        f"{section}.{field}": value
        for section, fields in RunConfig().model_dump().items()
        for field, value in fields.items()
    }


def moved_defaults(known: dict[str, object]) -> list[str]:
    """Known fields that are gone or have another default; a new field is none of them."""
    now = defaults()
    return [name for name, value in known.items() if name not in now or now[name] != value]


def main() -> None:
    torch.set_num_threads(1)
    now = {name: losses(name) for name in CONFIGS}
    known = json.loads(FILE.read_text()) if FILE.exists() else EMPTY
    changed = moved_defaults(known["defaults"]) + [
        name
        for name, old in known["losses"].items()
        if name not in now or moved(name, old, now[name])
    ]
    if changed and known["semantics"] == SEMANTICS:
        sys.exit(f"numbers moved ({', '.join(changed)}): bump SEMANTICS in mytnano/config.py first")
    found = {"semantics": SEMANTICS, "defaults": defaults(), "losses": now}
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
