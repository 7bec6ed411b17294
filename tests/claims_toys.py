"""Toy evidence: an ablation's answer with chosen verdicts, and run results."""

import json

from mytnano.claims.evidence import FILE
from mytnano.config import SEMANTICS


def answer(**verdicts: str) -> dict:
    """An evidence file of an ablation with one arm a word."""
    return {
        "question": "?", "run_minutes": 2.0,
        "arms": [
            {"name": name.replace("_", "-"), "verdict": verdict, "low": -1.0, "high": 0.5,
             "sentence": f"{name} is {verdict}"}
            for name, verdict in verdicts.items()
        ],
        "designs": {}, "more": {}, "environment": {"semantics": SEMANTICS},
    }  # fmt: skip


def put(folder, name: str, content: dict) -> None:
    """One's own evidence of that name."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / FILE).write_text(json.dumps(content))


def result(gradients=(0.1, 10.0), rank=0.5, gap=0.01) -> dict:
    """A run's result, as far as claims read it."""
    blocks = [{"gradient_norm": g, "rank_one_distance": rank} for g in gradients]
    return {
        "mechanism": [{"at": "init", "blocks": blocks}, {"at": "end", "blocks": []}],
        "status_evidence": {"model_bpb": 3.0 + gap, "bigram_bpb": 3.0}, "bytes_per_token": 2.0,
    }  # fmt: skip
