"""One self-contained HTML page about a ladder, for the screen of a lecture.

Everything comes from the files of one output folder; the same files give the same page, byte for
byte. Nothing on it is loaded from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mytnano import words
from mytnano.designs.budgets import text_size
from mytnano.designs.families import BASE
from mytnano.designs.groups import WIDER_GROUPS
from mytnano.designs.rungs import GROUPS, RUNGS
from mytnano.errors import UserError
from mytnano.files import atomic_write_text
from mytnano.measure import status
from mytnano.report import compare, figures, scaling_figures
from mytnano.report.data import Arm, Results, load_results
from mytnano.report.defects import DEFECTS, flags
from mytnano.report.groups import group_views
from mytnano.report.planned import coverage, settings
from mytnano.run_files import origin
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
    "text_size": text_size,
    "seeds": lambda arm: words.listed([str(run.seed) for run in arm.runs]),
    "listed": words.listed,
    "setting": words.setting,
    "title": words.title,
    "clean": words.clean,
    "token_unit": compare.token_unit,
    "short_tokenizer": figures.short_tokenizer,
}


def write_report(
    folder: Path, force: bool = False, say: Callable[[str], None] = lambda sentence: None
) -> Path:
    """Write ``report.html`` into an output folder from what lies there; returns its path.

    Args:
        force: also over a page that shows more.
        say: gets a sentence if the folders of some runs are missing.

    Raises:
        UserError: there are no results in the folder, or it cannot be written; or folders of runs
            are missing, and the page that is there was made with them.
    """
    path = Path(folder) / NAME
    results = load_results(folder)
    text = render(results)
    if results.without_folder:
        runs = sum(len(arm.runs) for arm in results.arms.values())
        lacking = f"the folders of {results.without_folder} of {runs} runs are missing in {folder}"
        if not force and _figures(path) > text.count(_FIGURE):
            raise UserError(
                f"{lacking}, so the page would show less than {path}, which is left as it is: "
                "--force replaces it"
            )
        say(f"{lacking}, and with them their curves and samples")
    atomic_write_text(path, text)
    return path


_FIGURE = "<svg"


def _exceptions(results: Results) -> list[tuple[list[str], dict[str, Any]]]:
    """The runs that were made in other conditions than most, by name, and these conditions."""
    apart: dict[tuple[Any, ...], tuple[list[str], dict[str, Any]]] = {}
    for arm in results.arms.values():
        for seed, made in results.exceptions(arm):
            names, _ = apart.setdefault(origin(made), ([], made))
            names.append(f"{arm.rung.id} ({seed})" if seed else arm.rung.id)
    cells = {arm.rung.id for arm in results.group("depth")}
    for names, _ in apart.values():
        if cells and cells <= set(names):
            names[:] = [*(n for n in names if n not in cells), "all cells of the depth figure"]
    return list(apart.values())


def _figures(path: Path) -> int:
    """Figures of a page; none if there is no page."""
    try:
        return path.read_text(encoding="utf-8").count(_FIGURE)
    except (OSError, ValueError):
        return 0


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
    groups = group_views(results)
    grouped = {id for view in groups for id in view["group"].ids}
    arms = list(results.arms.values())
    core = results.group("core")
    core = core or [arm for arm in arms if arm.group not in (*GROUPS, *WIDER_GROUPS)]
    logged = results.group("as-logged")
    named = {arm.rung.id for arm in (*core, *logged, *results.group("depth"))} | grouped
    beyond = [arm for arm in arms if arm.rung.id not in named]
    best = compare.lowest(core)
    cells = scaling_figures.depth_cells(results)
    return {
        "results": results,
        "style": Markup((HOME / "style.css").read_text(encoding="utf-8")),
        "palettes": {"light": LIGHT, "dark": DARK},
        "core": core,
        "best": best,
        "cost": cost(results, core, best),
        "standing": standing(results, best, "budget"),
        "exceptions": _exceptions(results),
        "left_out": [arm for arm in core if not arm.healthy],
        "runs": sum(len(arm.runs) for arm in arms),
        "passes": times_of_text(results, results.budget.get("train_bytes")),
        "coverage": coverage(results),
        "budget": settings(results.budget),
        "ladder_figure": figures.ladder_figure(results, core, best) if core else "",
        "tables": [
            (name, shown)
            for name, shown in (("The ladder", core), ("As logged", logged), ("Beyond", beyond))
            if shown
        ],
        "rungs": [section(results, arm) for arm in core],
        "as_logged": [section(results, arm) for arm in logged],
        "beyond": [beyond_section(results, arm) for arm in beyond],
        "defects": defects(results),
        "flags": flags(results),
        "groups": groups,
        "of_groups": bool(groups) and all(arm.rung.id in grouped for arm in core),
        "base": BASE,
        "depth": depth(cells) if cells else None,
        "attention": attention(results.attention),
        "baselines": baselines(results.baselines),
        "baseline_names": figures.BASELINE_NAMES,
        "status": status_constants(),
    }


def cost(results: Results, core: list[Arm], best: Arm | None) -> dict[str, Any] | None:
    """What the best core rung costs beside the final design, and which is best at its FLOPs."""
    final = results.arms.get(BASE)
    if best is None or final is None or best is final:
        return None
    flops, params = compare.cost_beside(best, final)
    equal = compare.of_equal_cost(core, final)
    return {
        "final": final,
        "flops": flops,
        "params": params,
        "other_text": compare.OTHER_TEXT if compare.knows_other_text(best) else "",
        "equal": compare.lowest(equal),
        "share": compare.NEAR_FLOPS,
        "count": len(equal),
    }


def times_of_text(results: Results, read: float | None) -> str:
    """How often so many bytes are the training text, if more than once; else empty."""
    split = (results.corpus.get("bytes") or {}).get("train")
    times = float(f"{(read or 0) / split:.2g}") if split else 0.0
    return f"{times:g}" if times > 1 else ""


def beyond_section(results: Results, arm: Arm) -> dict[str, Any]:
    """A section, and what the first paragraphs say of an arm that is no step of the ladder."""
    return {
        **section(results, arm),
        "standing": standing(results, arm, "full"),
        "passes": times_of_text(results, arm.runs[0].row.get("train_bytes")),
    }


def status_constants() -> dict[str, Any]:
    """The numbers in the definition of a run's status."""
    return {
        "near": 100 * (1 - status.NEAR),
        "ignores": status.IGNORES,
        "falling": 100 * status.FALLING,
        "leaving": 100 * status.LEAVING,
        "begun": status.BEGUN,
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
    first, claim = arm.runs[0], compare.claim(arm.rung)
    return {
        "arm": arm,
        "rung": arm.rung,
        "parent": parent,
        "changes": compare.changes(arm.rung, arm, parent),
        "claim": claim,
        "no_loss": compare.no_loss(claim) if claim and not claim.unit else "",
        "unit": compare.token_unit(figures.short_tokenizer(first.row.get("tokenizer") or "")),
        "pairs": paired,
        "mean_difference": compare.mean_difference(paired),
        "caution": compare.caution(len(paired)),
        "counted": compare.counted_bigrams(results.baselines, arm)
        if arm.rung.id == "bigram"
        else [],
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
    """The defects of which at least one arm was run, by the seeds that both arms have."""
    rows = []
    for defect in DEFECTS:
        arms = [results.arms.get(id) for id in (defect.as_logged, defect.fair)]
        if any(arms):
            claim = compare.claim(RUNGS[defect.as_logged])
            logged, fair = compare.of_shared_seeds(*arms)
            rows.append({"defect": defect, "claim": claim, "as_logged": logged, "fair": fair})
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
