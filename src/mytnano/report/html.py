"""One self-contained HTML page about a ladder, for the screen of a lecture.

Everything comes from the files of one output folder; the same files give the same page, byte for
byte. Nothing on it is loaded from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mytnano import words
from mytnano.designs.families import BASE
from mytnano.designs.groups import WIDER_GROUPS
from mytnano.designs.rungs import RUNGS
from mytnano.files import atomic_write_text
from mytnano.report import compare, figures, scaling_figures
from mytnano.report.data import Arm, Results, load_results
from mytnano.report.defects import DEFECTS, flags
from mytnano.report.groups import group_views
from mytnano.svg import DARK, LIGHT

NAME = "report.html"
HOME = Path(__file__).parent

MECHANISM = (
    ("distance from rank one", "rank_one_distance"),
    ("token cosine", "token_cosine"),
    ("activation RMS", "activation_rms"),
    ("attention entropy", "attention_entropy"),
    ("update / weight", "update_ratio"),
)

FILTERS = {
    "number": words.number,
    "signed": words.signed,
    "significant": words.significant,
    "percent": words.percent,
    "quantity": words.quantity,
    "setting": words.setting,
    "title": words.title,
    "clean": words.clean,
    "token_unit": compare.token_unit,
    "short_tokenizer": figures.short_tokenizer,
}


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into an output folder from what lies there; returns its path.

    Raises:
        UserError: there are no results in the folder, or it cannot be written.
    """
    path = Path(folder) / NAME
    atomic_write_text(path, render(load_results(folder)))
    return path


def render(results: Results) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HOME),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {**FILTERS, "detail": detail, "span": span}
    return environment.get_template("report.html.j2").render(page(results))


def page(results: Results) -> dict[str, Any]:
    """Everything that the template shows."""
    elsewhere = ("depth", *WIDER_GROUPS)  # have sections of their own
    core = results.group("core")
    core = core or [a for a in results.arms.values() if a.group not in elsewhere]
    logged = results.group("as-logged")
    shown = [*core, *logged]
    beyond = [a for a in results.arms.values() if a.group not in elsewhere and a not in shown]
    best = compare.lowest(core)
    cells = scaling_figures.depth_cells(results)
    return {
        "results": results,
        "style": Markup((HOME / "style.css").read_text(encoding="utf-8")),
        "palettes": {"light": LIGHT, "dark": DARK},
        "core": core,
        "best": best,
        "standing": standing(results, best, "budget"),
        "left_out": [arm for arm in core if not arm.healthy],
        "runs": sum(len(arm.runs) for arm in results.arms.values()),
        "ladder_figure": figures.ladder_figure(results, core, best) if core else "",
        "tables": [
            (name, arms)
            for name, arms in (("The ladder", core), ("As logged", logged), ("Beyond", beyond))
            if arms
        ],
        "rungs": [section(results, arm) for arm in core],
        "as_logged": [section(results, arm) for arm in logged],
        "beyond": [
            {**section(results, arm), "standing": standing(results, arm, "full")} for arm in beyond
        ],
        "defects": defects(results),
        "flags": flags(results),
        "groups": group_views(results),
        "base": BASE,
        "depth": depth(cells) if cells else None,
        "attention": attention(results.attention),
        "baselines": baselines(results.baselines),
        "baseline_names": figures.BASELINE_NAMES,
    }


def standing(results: Results, arm: Arm | None, fitted: str) -> list[tuple[str, float, float]]:
    """(baseline, its BPB, the arm's mean minus it) for baselines that a good model must beat.

    ``fitted`` is ``budget`` or ``full``: on the bytes of a run of the ladder, or the whole split.
    """
    score = arm.mean() if arm else None
    if score is None:
        return []
    named = [
        (figures.BASELINE_NAMES[name], results.baseline(name, fitted))
        for name in ("bigram", "zstd", "xz", "kneser-ney-5")
    ]
    return [(name, bpb, score - bpb) for name, bpb in named if bpb is not None]


def section(results: Results, arm: Arm) -> dict[str, Any]:
    """What is shown of one rung."""
    parent = results.parent(arm)
    paired = compare.pairs(arm, parent)
    first = arm.runs[0]
    return {
        "arm": arm,
        "rung": arm.rung,
        "parent": parent,
        "changes": compare.changes(arm.rung, arm, parent),
        "claim": compare.claim(arm.rung),
        "unit": compare.token_unit(figures.short_tokenizer(first.row.get("tokenizer") or "")),
        "pairs": paired,
        "mean_difference": compare.mean_difference(paired),
        "caution": compare.caution(len(paired)),
        "closed_form": results.baselines.get("char_bigram") if arm.rung.id == "bigram" else None,
        "curve": figures.curve_figure(arm, parent),
        "gradient": figures.gradient_figure(arm),
        "mechanism": mechanism(first.result.get("mechanism") or []),
        "sample": first.result.get("sample"),
        "prompt": first.result.get("prompt") or "",
    }


def mechanism(moments: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The compact table: a row a block, and for each quantity a column a moment."""
    moments = [moment for moment in moments if moment.get("blocks")]
    if not moments:
        return None
    shown = [
        (name, key)
        for name, key in MECHANISM
        if any(block.get(key) is not None for m in moments for block in m["blocks"])
    ]
    rows = [
        [[moment["blocks"][place].get(key) for moment in moments] for _, key in shown]
        for place in range(len(moments[0]["blocks"]))
    ]
    return {"names": [n for n, _ in shown], "moments": [m["at"] for m in moments], "rows": rows}


def defects(results: Results) -> list[dict[str, Any]]:
    """The defects of which at least one arm was run."""
    rows = []
    for defect in DEFECTS:
        arms = [results.arms.get(id) for id in (defect.as_logged, defect.fair)]
        if any(arms):
            claim = compare.claim(RUNGS[defect.as_logged])
            rows.append({"defect": defect, "claim": claim, "as_logged": arms[0], "fair": arms[1]})
    return rows


def depth(cells: Sequence[scaling_figures.Cell]) -> dict[str, Any]:
    """The depth figure, its table, and the profile of the deepest stacks."""
    key = scaling_figures.depth_score(cells)
    chosen = scaling_figures.deepest(cells, key)
    return {
        "key": key,
        "figure": scaling_figures.depth_figure(cells, key),
        "profile": scaling_figures.profile_figure(chosen),
        "chosen": chosen,
        "depths": sorted({cell.layers for cell in cells}),
        "rates": sorted({cell.lr for cell in cells}, key=float),
        "arms": {(cell.path, cell.layers, cell.lr): cell.arm for cell in cells},
        "paths": scaling_figures.PATHS,
    }


def attention(measured: dict[str, Any] | None) -> dict[str, Any] | None:
    """The attention figure and its rows by T; None if it was not measured."""
    rows = (measured or {}).get("rows") or []
    if not measured or not rows:
        return None
    hardware = (measured.get("environment") or {}).get("hardware")
    conditions = {**measured, **({"hardware": hardware} if hardware else {})}
    return {
        "figure": scaling_figures.attention_figure(rows),
        "lengths": sorted({row["T"] for row in rows}),
        "rows": {(row["kernel"], row["T"]): row for row in rows},
        "difference": measured.get("max_abs_difference"),
        "conditions": {
            name.replace("_", " "): value
            for name, value in conditions.items()
            if isinstance(value, (str, int)) and not isinstance(value, bool)
        },
    }


def baselines(fitted: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a closed-form baseline: its fit on the bytes of the runs, and on the whole split."""
    rows: dict[str, dict[str, Any]] = {}
    for side in ("budget", "full"):
        for row in fitted.get(side) or []:
            rows.setdefault(row["name"], {"name": row["name"], "budget": {}, "full": {}})[side] = (
                row
            )
    return list(rows.values())


def detail(chosen: dict[str, Any]) -> str:
    """What a baseline was fitted with: ``k 0.1``, ``discounts 0.5 0.7``."""
    parts = []
    for name, value in (chosen or {}).items():
        values = value if isinstance(value, list) else [value]
        if name != "label" and not any(isinstance(v, (list, dict)) for v in values):
            shown = [words.significant(v) if isinstance(v, float) else str(v) for v in values]
            parts.append(f"{name.replace('_', ' ')} {' '.join(shown)}")
    return ", ".join(parts)


def span(arm: Arm) -> str:
    """Lowest and highest BPB of an arm's seeds; nothing for one seed."""
    scores = [run.bpb for run in arm.runs if run.bpb is not None]
    if len(scores) < 2:
        return ""
    return f"{words.number(min(scores))}–{words.number(max(scores))}"
