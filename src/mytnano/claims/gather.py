"""The evidence file of an ablation: the lab's answer, and what its run folders tell besides."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mytnano.claims.evidence import FILE
from mytnano.claims.ledger import question_hash
from mytnano.files import atomic_write_json
from mytnano.lab.folder import ANSWER
from mytnano.runs.store import finished_runs


def write_evidence(folder: Path, name: str) -> dict[str, Any]:
    """Gather an ablation's answer and run folders into ``evidence.json``.

    ``run_minutes`` are those of its runs by the clock, added up, whatever else the machine did.

    Args:
        name: of the ablation, whose question is written down by its hash.

    Raises:
        UserError: the disk is full.
        FileNotFoundError: the folder holds no answer; that is the caller's mistake.
    """
    found = json.loads((folder / ANSWER).read_bytes())
    runs, _ = finished_runs(folder)
    results = [run.result() for run in runs]
    found["question_hash"] = question_hash(name)
    found["run_minutes"] = sum(result["seconds"] for result in results) / 60
    found["runs"] = len(results)
    found["more"] = {
        arm: observations([r for r in results if r["rung"] == arm and r["group"] == "confirmed"])
        for arm in found["designs"]
    }
    atomic_write_json(folder / FILE, found)
    return found


def observations(results: list[dict[str, Any]]) -> dict[str, float]:
    """Means over an arm's confirmed runs of what claims ask for besides the score.

    ``gradient_ratio`` is the gradient norm of the last block over that of the first, ``rank`` the
    last block's distance from rank one, both before the first step; ``bigram_gap`` the run's
    validation BPB minus that of the bigram counted on the same bytes.
    """
    found: dict[str, list[float]] = {}
    for result in results:
        for name, value in _observed(result):
            found.setdefault(name, []).append(value)
    return {name: statistics.fmean(values) for name, values in found.items()}


def _observed(result: dict[str, Any]) -> Iterator[tuple[str, float]]:
    blocks = next((m["blocks"] for m in result["mechanism"] if m["at"] == "init"), [])
    if blocks:
        yield "rank", blocks[-1]["rank_one_distance"]
        if blocks[0]["gradient_norm"]:
            yield "gradient_ratio", blocks[-1]["gradient_norm"] / blocks[0]["gradient_norm"]
    evidence = result["status_evidence"]
    if evidence["model_bpb"] is not None:
        yield "bigram_gap", evidence["model_bpb"] - evidence["bigram_bpb"]
    yield "bytes_per_token", result["bytes_per_token"]
