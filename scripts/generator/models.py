"""Regions about models that were trained to be kept: scores, curves, and what they write."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure

from generator.tables import Project, conditions, paragraphs, table
from mytnano import words
from mytnano.run_files import METRICS, RESULT, SAMPLES
from mytnano.svg import ACCENT, FAINT, INK, SECOND, WARN, axes, draw, label_ends, standalone

FOLDER = "results/models"
FIGURE = "docs/img/models.svg"
BASELINES = "results/ladder/quick/baselines.json"
LADDER = "results/ladder/quick/results.json"
SHOWN = {"kneser-ney-5": "5-gram", "xz": "xz"}
"""Baselines beside the models, fitted on all of the training text."""

ABSENT = "No model is published yet: `scripts/publish.py model RUN` does it."


@dataclass(frozen=True)
class Kept:
    """A published model: its result, its curve, and its samples."""

    name: str
    result: dict[str, Any]
    points: list[dict[str, Any]]
    samples: list[dict[str, Any]]


def kept(project: Project) -> list[Kept]:
    """The published models, the best one first."""
    found = []
    for path in project.files(f"{FOLDER}/*/{RESULT}"):
        folder = path.removesuffix(RESULT)
        found.append(
            Kept(
                path.split("/")[-2],
                project.read(path),
                _lines(project, folder + METRICS),
                _lines(project, folder + SAMPLES),
            )
        )
    return sorted(found, key=lambda model: model.result["test_bpb"])


def _lines(project: Project, path: str) -> list[dict[str, Any]]:
    text = (project.root / path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _closed_form(project: Project) -> dict[str, float]:
    fitted = (project.read(BASELINES) or {}).get("full", [])
    return {SHOWN[each["name"]]: each["bpb"] for each in fitted if each["name"] in SHOWN}


def _conditions(found: list[Kept]) -> list[str]:
    """Where they were made, each place once."""
    return list(dict.fromkeys(conditions(model.result["environment"]) for model in found))


def models(project: Project) -> str:
    """A row a model, and the closed forms that have seen the same text."""
    found = kept(project)
    if not found:
        return ABSENT
    rows: list[tuple[object, ...]] = [
        (
            f"`{m.name}`",
            words.quantity(m.result["params"]),
            f"{words.quantity(m.result['train_bytes'], 'B')}{_passes(project, m.result)}",
            words.number(m.result["test_bpb"]),
            words.number(m.result["validation_bpb"]),
            f"{m.result['tokens_per_second']:,.0f}",
            f"{m.result['peak_share']:.0%}" if m.result["peak_share"] else None,
            f"{m.result['command_seconds'] / 60:.1f}",
        )
        for m in found
    ]
    rows += [(name, None, None, words.number(bpb), *[None] * 4) for name, bpb in _closed_form(
        project).items()]  # fmt: skip
    header = (
        "model", "parameters", "text read", "test BPB", "validation BPB", "tokens/s",
        "of the peak", "minutes, all in",
    )  # fmt: skip
    told = (
        "One seed each. The closed forms are fitted on the whole training split. Models and closed "
        "forms are scored on all of the same test text."
    )
    return paragraphs(table(header, rows, header[1:]), told, *_conditions(found))


def _passes(project: Project, result: dict[str, Any]) -> str:
    """`` (6.4 passes)``: how often the training text was read, where more than once."""
    corpus = (project.read(LADDER) or {}).get("corpus") or {}
    whole = (corpus.get("bytes") or {}).get("train")
    passes = result["train_bytes"] / whole if whole else 0.0
    return f" ({passes:.1f} passes)" if passes > 1 else ""


def curves(project: Project, images: str = "img") -> str:
    """The figure of all published models, where it lies from the document."""
    found = kept(project)
    if not found:
        return ABSENT
    picture = (
        f"![Validation bits per byte of each model over minutes of training]({images}/models.svg)"
    )
    said = (
        "BPB of the first few KiB of validation text over minutes of training; dashed lines are "
        "closed forms of the test text."
    )
    return paragraphs(picture, said, *_conditions(found))


def samples(project: Project) -> str:
    """What each model wrote when it was finished."""
    found = kept(project)
    if not found:
        return ABSENT
    parts = []
    if any(s["prompt"].endswith(" ") for model in found for s in model.samples):
        parts.append(
            "The prompts ended with a space, a mistake mended since: in this vocabulary the space "
            "belongs to the word after it, so the first word of each text below is damaged."
        )
    for model in found:
        last = max(sample["step"] for sample in model.samples)
        parts.append(f"`{model.name}`, after its last step:")
        parts += [
            "\n".join(f"> {line}" for line in (s["prompt"] + s["text"]).splitlines())
            for s in model.samples
            if s["step"] == last
        ]
    return paragraphs(*parts, *_conditions(found))


def figure(project: Project) -> str | None:
    """Validation bits per byte over minutes, as an SVG file; None without models."""
    found = kept(project)
    if not found:
        return None
    lines = _closed_form(project)

    def paint(whole: Figure) -> None:
        ax = axes(whole, 46, 14, 500, 250)
        ends = []
        for model, colour in zip(found, cycle((ACCENT, SECOND, WARN, INK)), strict=False):
            scored = [p for p in model.points if p["validation_bpb"] is not None]
            minutes = [p["seconds"] / 60 for p in scored]
            bpb = [p["validation_bpb"] for p in scored]
            ax.plot(minutes, bpb, "o-", color=colour, ms=3.5)
            ends.append((bpb[-1], model.name, colour))
        for name, bpb in lines.items():
            ax.axhline(bpb, color=FAINT, lw=1, ls=(0, (4, 3)))
            ends.append((bpb, name, FAINT))
        low = min(value for value, *_ in ends)
        ax.set_ylim(math.floor(20 * low) / 20 - 0.02, low + 0.6)
        ax.set_xlim(left=0)
        ax.set_xlabel("minutes of training")
        ax.set_ylabel("bits per byte")
        ax.grid(axis="y")
        label_ends(ax, ends)

    alt = "Validation bits per byte of each model over minutes of training"
    return standalone(str(draw("models", alt, (700, 310), paint)))
