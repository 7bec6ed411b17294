"""The regions that put the arms of several ablations of the claims into one table."""

from __future__ import annotations

from typing import Any

from generator.claims import FOLDER
from generator.tables import Project, table
from mytnano.claims.evidence import Evidence

COLUMNS = {
    "no residual paths": "stack", "residual paths": "residual",
    "and post-LayerNorm": "post-norm", "and pre-LayerNorm": "pre-norm",
}  # fmt: skip
BLOCKS = (1, 2, 4, 8)

ABLATIONS = ("one-block", "depth", "depth-cells")
"""Their baseline is one and the same: a single block without residual paths or norm."""

VOCABULARIES = ("tokenizer", "vocabularies")
"""Their baseline is one and the same: bytes."""

SIZES = {
    "baseline": "byte", "bpe-512": "bpe 512", "bpe-2048": "bpe 2048", "bpe-8192": "bpe 8192",
    "bpe-30720": "bpe 30720", "cl100k": "cl100k",
}  # fmt: skip


def depth(project: Project) -> str:
    """Verdicts over one block, by the number of blocks and what runs beside them."""
    evidence = Evidence(shipped=project.root / FOLDER)
    cells = {
        (1, "stack"): "the baseline",
        **{
            _cell_of(arm["name"], name): _told(arm)
            for name in ABLATIONS
            for arm in (evidence[name] or {"arms": ()})["arms"]
        },
    }
    rows = [
        (blocks, *(cells.get((blocks, kind), "not run") for kind in COLUMNS.values()))
        for blocks in BLOCKS
    ]
    return table(("blocks", *COLUMNS), rows, ("blocks",))


def _cell_of(arm: str, ablation: str) -> tuple[int, str]:
    """``residual-4`` -> (4, "residual"); arms about one block do not say so."""
    if ablation == "one-block":
        return 1, arm
    kind, _, blocks = arm.rpartition("-")
    return int(blocks), kind


def _told(arm: dict[str, Any]) -> str:
    if arm.get("low") is None:
        return arm["verdict"]
    return f"{arm['verdict']}, {arm['low']:+.1f} to {arm['high']:+.1f} %"


def vocabularies(project: Project) -> str:
    """Each vocabulary against bytes, by its size."""
    evidence = Evidence(shipped=project.root / FOLDER)
    rows = {}
    for found in filter(None, (evidence[name] for name in VOCABULARIES)):
        arms = {arm["name"]: _told(arm) for arm in found["arms"]}
        bytes_flops = found["designs"]["baseline"]["flops"]
        for name, design in found["designs"].items():
            rows[name] = (
                SIZES[name], f"{design['params']:,}",
                f"{design['flops'] / bytes_flops:.2f}", f"{design['bpb']:.3f}",
                design["seeds"], arms.get(name, "the baseline"),
            )  # fmt: skip
    header = ("vocabulary", "parameters", "FLOPs over those of bytes", "BPB", "seeds", "verdict")
    shown = [rows.get(name, (said, *["not run"] * 5)) for name, said in SIZES.items()]
    return table(header, shown, header[1:5])
