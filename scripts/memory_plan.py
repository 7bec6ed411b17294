"""Predicted and measured peak memory of training steps on this CPU, for shapes that differ.

    python scripts/memory_plan.py

writes results/scale/memory.json. Each shape is measured twice in a fresh process: its resident
memory as it is, and with every freed tensor given back to the system, which shows the tensors
alone. Other work on the machine changes neither.

Each shape keeps the machine, date and commit that it was measured at: --only measures some anew.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from measured_memory import measured_peak

from mytnano.config import RunConfig
from mytnano.designs.baselines import starting_design
from mytnano.environment import environment
from mytnano.files import atomic_write_json
from mytnano.planning.memory import training_memory

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {
    "gelu, rope, rmsnorm, 128 tokens": {
        "width": 160, "layers": 3, "heads": 5, "kv_heads": 5, "ffn_width": 640,
        "vocab_size": 3000, "context": 128,
    },
    "swiglu, grouped queries, tied, 512 tokens": {
        "width": 96, "layers": 6, "heads": 6, "kv_heads": 2, "ffn": "swiglu", "ffn_width": 256,
        "vocab_size": 1000, "context": 512, "tied": True,
    },
    "relu, learned positions, layernorm, explicit attention": {
        "width": 128, "layers": 3, "heads": 4, "kv_heads": 4, "ffn": "relu", "ffn_width": 512,
        "vocab_size": 2000, "context": 128, "kernel": "explicit", "positions": "learned",
        "norm": "layernorm",
    },
    "a vocabulary of 32,768": {
        "width": 64, "layers": 4, "heads": 4, "kv_heads": 4, "ffn_width": 256,
        "vocab_size": 32_768, "context": 256,
    },
    "geglu, 1,024 tokens": {
        "width": 128, "layers": 3, "heads": 4, "kv_heads": 4, "ffn": "geglu", "ffn_width": 352,
        "vocab_size": 4096, "context": 1024,
    },
    "blocks that recompute": {
        "width": 128, "layers": 8, "heads": 4, "kv_heads": 4, "ffn_width": 512,
        "vocab_size": 1000, "context": 256,
    },
    "shorter blocks that recompute": {
        "width": 96, "layers": 6, "heads": 4, "kv_heads": 4, "ffn_width": 384,
        "vocab_size": 4096, "context": 128,
    },
}  # fmt: skip
RECOMPUTE = "recompute"


def config_of(name: str) -> RunConfig:
    """One micro-batch a step, as more of them take no more memory."""
    shape = SHAPES[name]
    train = {"batch_windows": 4096 // shape["context"], "recompute": RECOMPUTE in name}
    return starting_design("small").but(model=shape, train=train)


def compare(name: str) -> dict[str, object]:
    """Predictions and measurements of one shape, in bytes."""
    config = config_of(name)
    memory = training_memory(config)
    resident, tensors = (measured_peak(config, tensors_only=only) for only in (False, True))
    return {
        "shape": SHAPES[name],
        "recompute": config.train.recompute,
        "predicted": memory.total,
        "measured": resident,
        "ratio": memory.total / resident,
        "predicted_tensors": memory.tensors,
        "measured_tensors": tensors,
        "tensors_ratio": memory.tensors / tensors,
        "parts": vars(memory),
        "environment": environment("cpu", "fp32"),
    }


def kept(path: Path) -> dict[str, dict]:
    """The shapes of an earlier file; of one that said so once for all, each with its conditions."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    whole = {"environment": found.get("environment")}
    return {name: whole | shape for name, shape in found["shapes"].items() if name in SHAPES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="shapes with this in their name; the others are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "scale" / "memory.json")
    chosen = parser.parse_args()
    wanted = [name for name in SHAPES if (chosen.only or "") in name]
    if not wanted:
        parser.error(f"no shape has '{chosen.only}' in its name; there are: {'; '.join(SHAPES)}")
    found = kept(chosen.out) if chosen.only else {}
    for name in wanted:
        found[name] = compare(name)
        print(f"{found[name]['ratio']:.3f} {found[name]['tensors_ratio']:.3f} {name}", flush=True)
    shapes = {name: found[name] for name in SHAPES if name in found}
    atomic_write_json(chosen.out, {"shapes": shapes})


if __name__ == "__main__":
    main()
