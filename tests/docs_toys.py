"""A small tree with made-up results for the documents' generator."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import generate  # noqa: F401 - for the tests
import publish  # noqa: F401
from report_toys import make_folder

from mytnano.designs.groups import WIDER_GROUPS
from mytnano.files import atomic_write_json, atomic_write_text

ROOT = Path(__file__).resolve().parent.parent

MACHINE = {
    "hardware": "a toy processor", "cores": 2, "precision": "fp32", "torch": "2.11.0",
    "python": "3.11.9", "commit": "0123abc", "date": "2026-01-31",
}  # fmt: skip


def make_tree(root: Path) -> Path:
    """The documents of this project in a folder of their own, with no result file at all."""
    (root / "docs").mkdir(parents=True)
    for path in (ROOT / "docs").glob("*.md"):
        shutil.copy(path, root / "docs")
    for name in ("README.md", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    return root


def fill_tree(root: Path, **toys: object) -> None:
    """Every result file that a region reads."""
    for budget, seeds in (("quick", 2), ("standard", 5)):
        make_folder(root / f"results/ladder/{budget}", seeds=seeds, run_folders=False, **toys)
    for name, group in WIDER_GROUPS.items():
        make_folder(root / f"results/groups/quick/{name}", group.ids, run_folders=False, **toys)
    costs = {"rungs": 3, "runs": 6, "searches": 2, "core_minutes": 4.5}
    planned = {budget: dict.fromkeys(WIDER_GROUPS, costs) for budget in ("quick", "standard")}
    atomic_write_json(root / "results/groups/minutes.json", {"budgets": planned})
    twin = make_folder(root / "results/precision/quick-bf16", ("bigram", "mytnano"), 1, **toys)
    results = json.loads((twin / "results.json").read_text())
    for row in results["runs"]:
        row["test_bpb"] += 0.01
    results["environment"]["precision"] = "bf16"
    atomic_write_json(twin / "results.json", results)
    sweep = {
        "train_bytes": 2**20, "corpus": "sotu", "seeds": [1000], "environment": MACHINE,
        "rungs": {
            "bigram": {
                "lr": 0.0123, "flat": False, "interior": True, "curvature": 0.01,
                "points": [[0.004, 3.61], [0.008, 3.57], [0.016, None]],
            }
        },
    }  # fmt: skip
    designs = root / "src/mytnano/designs"
    atomic_write_json(designs / "learning_rates.json", sweep)
    sizes = {"bpe:512": sweep["rungs"]["bigram"]}
    atomic_write_json(designs / "vocabulary.json", sweep | {"rungs": sizes, "best": "bpe:512"})
    atomic_write_json(root / "results/tuning/standard.json", sweep | {"train_bytes": 2**22})
    recipe = {"lr": 0.0123, "rate": 0.0456, "flat": False, "interior": True}
    recipes = {"mytnano": recipe | {"points": [[0.008, 2.5], [0.016, 2.4], [0.032, None]]}}
    about = {"size": "nano", "corpus": "sotu", "seeds": [1, 2], "environment": MACHINE}
    atomic_write_json(root / "results/tuning/recipes.json", about | {"recipes": recipes})
    commands = [{"command": "make ladder", "seconds": 642.0, "last_line": "report: <out>"}]
    atomic_write_json(
        root / "results/commands.json", {"environment": MACHINE, "commands": commands}
    )
    ran = {"label": "mytNano eager", "failure": None, "tokens_per_second": 12_345.6}
    ran |= {"ratios": {"nanoGPT": 1.254}, "gemm_fraction": 0.5, "compile_seconds": None}
    ran |= {"rounds": [12_000.4, 12_345.6]}
    shape = {"best": {"nanoGPT": "nanoGPT eager"}, "gemm_flops_per_second": 9e10}
    shape |= {"gemm_precision": "fp32", "contestants": [ran | {"peak_bytes": 7e7}]}
    shape["contestants"].append({"label": "HF Llama", "failure": "no compiler"})
    rate = {"alpha": 0.05, "experiments": 100, "wrong": 1, "low": 0.001, "high": 0.05}
    planted = {"effect": 1.0, "g": 1.0, "alpha": 0.01, "found": {"8": 0.5}, "median": 9.0}
    study = {
        "environment": MACHINE, "looks": [3, 64],
        "different": [rate | {"noise": "normal", "g": 1.0}], "families": [rate | {"arms": 5}],
        "equivalent": [rate], "peeking_t": [rate], "planted": [planted],
        "detectable": {"power": 0.8, "rows": [{"pairs": 8, "e-process, alpha 0.01": 2.76}]},
    }  # fmt: skip
    atomic_write_json(root / "results/stats/null.json", study)
    arm = {"sentence": "relu is worse than baseline", "prediction": "worse", "as_predicted": True}
    arm |= {"name": "relu", "verdict": "worse", "difference": 2.0, "low": 0.3, "high": 4.0}
    arm |= {"pairs": 7, "p_adjusted": 0.001, "others": []}
    open_ = {"sentence": "gelu is unresolved", "name": "gelu"}
    open_ |= {"verdict": "unresolved", "difference": 0.1, "low": -2.0, "high": 2.2}
    trend = {"slope": 1.7, "low": 0.2, "high": 3.2, "resolved": True, "shrinks": False}
    trend |= {"reverses": False, "compute": [2.5e11, 5e11, 1e12], "effects": [5.18, 8.0, 8.66]}
    arm |= {"trend": trend}
    open_ |= {"pairs": 7, "p_adjusted": 1.0, "as_predicted": None, "detectable_percent": 2.345}
    found = {"question": "Is it?", "arms": [arm, open_], "train_bytes": 2**18, "match": "flops"}
    found |= {"designs": {"relu": {"lr_fair": False}, "gelu": {"lr_fair": True}}}
    found |= {"corpus": "sotu", "environment": MACHINE, "plan_hash": "0123456789ab"}
    atomic_write_json(root / "results/lab/swiglu/answer.json", found)
    row = rate | {"ablations": 100, "said": {"better": 1, "unresolved": 99}}
    twins = {"twins": 64, "design": "small", "train_bytes": 65_536, "mean": 2.5, "rows": [row]}
    twins |= {"deviation_percent": 0.9, "environment": MACHINE}
    atomic_write_json(root / "results/stats/twins.json", twins)
    powers = {"growth": {"0": {"stream": 0.1, "logits": 0.2}, "1": {"stream": 0.3, "logits": 0.2}}}
    check = {"environment": MACHINE, "steps": 5, "config": {"optim": {"lr": 0.004}}}
    check |= {"scalings": {"mup": {"width": powers, "layers": powers}}}
    atomic_write_json(root / "results/scale/coordinates.json", check)
    memory = {"measured": 2e8, "ratio": 1.02, "tensors_ratio": 0.98}
    planned = {"environment": MACHINE, "shapes": {"small": memory}}
    atomic_write_json(root / "results/scale/memory.json", planned)
    best = {"lr": 0.004, "octaves_from_base": -0.25, "cost_of_base_lr": 0.0012}
    best |= {"flat": True, "interior": True, "points": [[0.002, 3.3], [0.004, 3.2]]}
    wider = best | {"lr": 0.001, "cost_of_base_lr": 0.2}
    rates = {"base": {"model": {"width": 64, "ffn_width": 256}}, "train_bytes": 2**18}
    rates |= {"environment": MACHINE, "seeds": [1000]}
    rates |= {"designs": {"mup-d64-l8": best, "mup-d64-l4": best, "mup-d128-l4": wider}}
    rates["designs"] |= {"standard-d128-l4": wider | {"points": [[0.001, 3.1]]}}
    atomic_write_json(root / "results/scale/lr_transfer.json", rates)
    read = {"environment": MACHINE | {"load": 1.5}, "tokens_per_second": 2.5e6, "goal": 10**6}
    read |= {"steps": 900, "batch_windows": 64, "context": 1024, "set_bytes": 1e10, "shards": 149}
    read |= {"resident_growth_bytes": 9e7, "mapped_bytes": 3e10}
    atomic_write_json(root / "results/scale/loader.json", read)
    way = {"tokens_per_second": 5e4, "flops_per_second": 4.5e14, "mfu": 0.455, "measured": 4e10}
    way |= {"predicted": 4.2e10, "first_step_seconds": 90.0}
    agree = {"steps": 50, "from_cpu": {"here": 2e-5, "bf16": 0.01}, "stopped_from_whole": 0.0}
    agree |= {"again": 3e-7}
    sizes = {"layers": 6, "width": 1536, "vocab_size": 32_768}
    speeds = {"plain": [100.0, 200.0, 300.0], "sharded": [150.0]}
    ranked = {"steps": 10, "loss_gap": 1e-6, "ratio": 0.75, "model": sizes}
    way |= {"recipe": "mytllm-1b", "batch_windows": 320, "micro_windows": 8}
    gpu = {
        "agree": agree,
        "sharded": ranked | {"tokens_per_second": speeds},
        "memory": {"shapes": {"small": {"predicted": 1.2e9, "measured": 1e9, "ratio": 1.2}}},
        "eager": way,
        "compiled": {"failed": "no room"},
    }
    about = {"smoke": False, "environment": MACHINE | {"device": "cuda"}}
    gpu = {name: about | part for name, part in gpu.items()}
    atomic_write_json(root / "results/scale/gpu.json", gpu)
    steps = {"recipe": "mytllm-1b", "parameters": 10**9, "context": 1536, "losses": [11.5, 9.5, 8]}
    steps |= {"rate": 1e-4, "measured": 2e10, "planned": 2.1e10, "environment": MACHINE}
    atomic_write_json(root / "results/scale/whole_recipe.json", steps)
    law = {"corpus": "toys", "rates": {"d16": 0.004}, "sentences": ["4 runs in 2 cells"]}
    law |= {"environments": [MACHINE]}
    atomic_write_json(root / "results/scale/forecast/forecast.json", law)
    evidence = root / "src/mytnano/claims/evidence"
    claim = {"sentence": "relu is better than baseline", "name": "relu", "verdict": "better"}
    claim = found | {"arms": [claim, claim | {"name": "gelu"}], "run_minutes": 3.0, "more": {}}
    atomic_write_json(evidence / "block.json", claim)
    atomic_write_json(evidence / "twins.json", twins)
    cell = {"source": "mytnano claims C13\n", "output": "C13 (stage 04)", "seconds": 1.0}
    toured = {"environment": MACHINE, "seconds": 60.0, "cells": {"claim": cell}}
    atomic_write_json(root / "results/tour.json", toured)
    model = root / "results/models/mytnano-nano"
    scored = {"test_bpb": 1.5, "validation_bpb": 1.6, "params": 1_000_000, "train_bytes": 4_200_000}
    scored |= {"tokens_per_second": 9876.5, "peak_share": 0.4, "command_seconds": 1800.0}
    atomic_write_json(model / "result.json", scored | {"environment": MACHINE})
    point = {"seconds": 90.0, "validation_bpb": 1.7}
    atomic_write_text(model / "metrics.jsonl", json.dumps(point) + "\n")
    sample = {"step": 9, "prompt": "The people", "text": " of the toys"}
    atomic_write_text(model / "samples.jsonl", json.dumps(sample) + "\n")
    race = {"environment": MACHINE, "threads": 2, "rounds": 3, "shapes": {"B": shape}}
    atomic_write_json(root / "results/bench/race-cpu.json", race)
    quality = {"environment": MACHINE, "rounds": 3, "text": {"name": "a.txt", "bytes": 1000}}
    quality["text"]["test_bytes"] = 100
    quality["medians"] = {"nanoGPT, README": {"seconds": 60.04, "bpb": 2.7}}
    quality["runs"] = [
        {"who": "nanoGPT, README", "seconds": seconds, "bpb": 2.7} for seconds in (58.0, 60.04, 70)
    ]
    atomic_write_json(root / "results/bench/quality-cpu.json", quality)
    tokenizers = {"environment": MACHINE, "rounds": 3, "corpus": "sotu", "bytes": 9_800_000}
    tokenizers["megabytes_per_second"] = {"train bpe:1024": 4.2}
    atomic_write_json(root / "results/bench/tokenizers-cpu.json", tokenizers)
    writer = {"label": "mytNano", "tokens_per_second": 1234.5, "ratio_to_transformers": 4.26}
    decode = {"environment": MACHINE, "run": "a run", "architecture": "Llama", "threads": 2}
    decode |= {
        "transformers": "5.0",
        "rounds": 3,
        "batches": [{"rows": 8, "contestants": [writer]}],
    }
    atomic_write_json(root / "results/bench/decode-cpu.json", decode)
