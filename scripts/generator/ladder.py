"""Regions about a published ladder: its table, baselines, findings, the log, and each rung."""

from __future__ import annotations

from generator.tables import Project, bullets, conditions, older, paragraphs, plain, table
from mytnano import words
from mytnano.report import compare
from mytnano.report.data import Arm, Results, load_results
from mytnano.report.defects import DEFECTS
from mytnano.report.figures import BASELINE_NAMES, ladder_figure, short_tokenizer
from mytnano.report.planned import coverage
from mytnano.report.scaling_figures import PATHS, depth_cells, depth_score
from mytnano.run_files import origin
from mytnano.svg import standalone

COMMANDS = {"quick": "make ladder", "standard": "mytnano ladder --budget standard"}

FINAL, BEST_KNOWN = "mytnano", "mytnano-cl100k"
"""The rung that the log ends with, under a vocabulary of the ladder's own text and the log's."""

FITS = {
    "budget": "fitted on the bytes that the runs saw",
    "full": "fitted on the whole training split",
}
"""The two texts that the closed-form baselines are fitted on."""


def folder_of(budget: str) -> str:
    """Where the results of a budget are published, relative to the tree."""
    return f"results/ladder/{budget}"


def published(project: Project, budget: str) -> Results | None:
    """The published results of a budget; None if there are none yet."""
    folder = project.root / folder_of(budget)
    return load_results(folder) if (folder / "results.json").exists() else None


def absent(budget: str) -> str:
    """The sentence that stands for results that are not there yet."""
    return (
        f"No results of budget `{budget}` are published yet: `{COMMANDS[budget]}` makes them, and "
        f"`scripts/publish.py` copies them to `{folder_of(budget)}`."
    )


def about(results: Results) -> str:
    """Corpus, budget, what of it was not run, and conditions."""
    budget, corpus = results.budget, results.corpus
    size = f", {budget['train_bytes'] / 2**20:g} MiB of training text a run" if budget else ""
    alarm = "" if results.comparable else " **Not comparable: only a part of the test text.**"
    where = f"Corpus `{corpus.get('name')}`, budget `{budget.get('name')}`{size}.{alarm}"
    where += _coverage(results)
    return (
        f"{where} {conditions(results.environment)}{older(results.environment)}"
        f"{_exceptions(results)}"
    )


def _exceptions(results: Results) -> str:
    """Which rungs were made in other conditions than most; nothing if none was.

    Not the cells of the depth figure, whose table says so itself.
    """
    apart: dict[str, list[str]] = {}
    for arm in (arm for arm in results.arms.values() if arm.group != "depth"):
        for seed, made in results.exceptions(arm):
            name = f"`{arm.rung.id}`" + (f" ({seed})" if seed else "")
            apart.setdefault(conditions(made), []).append(name)
    return "".join(
        f" Except {words.listed(ids)}: {text[0].lower()}{text[1:]}" for text, ids in apart.items()
    )


def _coverage(results: Results) -> str:
    """How many of the budget's runs there are, where some are missing."""
    found = coverage(results)
    if found is None or found.made == found.planned:
        return ""
    missing = ", ".join(found.missing)
    return f" {found.made} of {found.planned} runs of this budget; not run: {missing}."


def headline_figure(project: Project, budget: str) -> str | None:
    """The ladder figure as a file of its own, in light colours on paper; None without results."""
    results = published(project, budget)
    core = results.group("core") if results else []
    if not results or not core:
        return None
    return standalone(str(ladder_figure(results, core, compare.lowest(core))))


def headline(project: Project, budget: str, images: str = "docs/img") -> str:
    """The figure with what it shows; ``images`` is where it lies, from the document."""
    results = published(project, budget)
    if results is None:
        return absent(budget)
    picture = (
        f"![Bits per byte of every rung and seed, with closed-form baselines]"
        f"({images}/ladder-{budget}.svg)"
    )
    caption = (
        "Every dot is one seed, the upright bar their mean; dashed lines are closed-form baselines "
        "fitted on the bytes that the runs saw. A struck circle is a run that is not healthy."
    )
    return paragraphs(picture, caption, about(results))


def ladder(project: Project, budget: str, groups: tuple[str, ...], page: str) -> str:
    """One row a rung, and below the core ladder what needs no training.

    ``page`` is the document that has a section for each rung, from here.
    """
    results = published(project, budget)
    if results is None:
        return absent(budget)
    arms = results.group(*groups)
    if not arms:
        return f"The published results of budget `{budget}` have no rungs of these groups."
    best = compare.lowest(arms)
    rows = [_row(arm, arm is best and "core" in groups, page) for arm in arms]
    header = ("rung", "what changes", "vocabulary", "parameters", "BPB", "each seed", "status")
    listing = table(header, rows, ("vocabulary", "parameters", "BPB"))
    return paragraphs(listing, closed_form(results) if "core" in groups else None, about(results))


def _row(arm: Arm, best: bool, page: str) -> list[str]:
    row = arm.runs[0].row
    mean = words.number(arm.mean())
    seeds = [struck(words.number(run.bpb), run.healthy) for run in arm.runs]
    return [
        f"[`{arm.rung.id}`]({page}#{arm.rung.id})",
        words.title(arm.rung.title),
        f"{row.get('vocab_size'):,}",
        words.quantity(row.get("params"), zeros=True),
        f"**{mean}**" if best else struck(mean, arm.healthy),
        " ".join(seeds) if len(seeds) > 1 else "",
        arm.status(),
    ]


def struck(text: str, healthy: bool) -> str:
    return text if healthy or text == words.MISSING else f"~~{text}~~"


def closed_form(results: Results) -> str:
    """BPB of the closed-form baselines, both fits, and how far the final designs are from them."""
    names = [name for name in BASELINE_NAMES if results.baseline(name, "full") is not None]
    if not names:
        return ""
    arms = [arm for id in (FINAL, BEST_KNOWN) if (arm := results.arms.get(id)) and arm.healthy]
    # Those of `long` saw more text than the budget's fit did.
    columns = [
        ("budget", arms),
        ("full", [*arms, *(a for a in results.group("long") if a.healthy)]),
    ]
    rows, header = [], ["BPB"]
    for fit, compared in columns:
        header += [FITS[fit], *(f"`{arm.rung.id}` minus it" for arm in compared)]
    for name in names:
        row = [BASELINE_NAMES[name]]
        for fit, compared in columns:
            bpb = results.baseline(name, fit)
            row.append(words.number(bpb))
            row += [words.signed(_minus(arm.mean(), bpb)) for arm in compared]
        rows.append(row)
    return paragraphs(
        "Closed-form baselines on the same test text, and what the final designs score minus each "
        "(below zero: the model is better):",
        table(header, rows, header[1:]),
    )


def _minus(score: float | None, other: float | None) -> float | None:
    return None if score is None or other is None else score - other


def log(project: Project, budget: str) -> str:
    """The log's rows beside ours, each in its own unit."""
    results = published(project, budget)
    if results is None:
        return absent(budget)
    arms = [arm for arm in results.arms.values() if arm.rung.logged]
    header = (
        "the log's row", "the log's loss", "accuracy", "our rung", "our loss", "accuracy here",
        "our BPB", "status",
    )  # fmt: skip
    rows = [_log_row(arm) for arm in arms]
    note = (
        "Losses are nats. The log's text is WikiText-103, ours another, so only directions can be "
        "compared, and a loss per token only with one of the same vocabulary."
    )
    return paragraphs(
        table(header, rows, ("accuracy", "accuracy here", "our BPB")), note, about(results)
    )


def _log_row(arm: Arm) -> list[str]:
    claim = compare.claim(arm.rung)
    assert claim is not None and arm.rung.logged is not None
    unit = f"per {claim.unit}" if claim.unit else compare.ABOVE_GUESSING
    token = compare.token_unit(short_tokenizer(arm.runs[0].row.get("tokenizer") or ""))
    return [
        arm.rung.logged.name,
        f"{claim.loss:.4f} {unit}",
        words.percent(claim.accuracy),
        f"`{arm.rung.id}`",
        struck(f"{words.number(arm.mean('test_loss'), 4)} per {token}", arm.healthy),
        words.percent(arm.mean("test_accuracy")),
        struck(words.number(arm.mean()), arm.healthy),
        arm.status(),
    ]


def defects(project: Project, budget: str) -> str:
    """Where the log's number came from a defect: the arm that repeats it beside the fair one."""
    results = published(project, budget)
    rows = []
    for defect in DEFECTS:
        arms = [results.arms.get(id) if results else None for id in (defect.as_logged, defect.fair)]
        arms = compare.of_shared_seeds(*arms)
        scores = [
            f"`{id}`" + (f" {struck(words.number(arm.mean()), arm.healthy)}" if arm else "")
            for id, arm in zip((defect.as_logged, defect.fair), arms, strict=True)
        ]
        seeds = ", ".join(str(run.seed) for run in arms[0].runs) if all(arms) else None
        rows.append((f"**{defect.title}.** {defect.text}", *scores, seeds))
    listing = table(("defect", "as logged, BPB", "fair, BPB", "seeds that both have"), rows)
    return paragraphs(listing, about(results) if results else absent(budget))


def depth(project: Project, budget: str) -> str:
    """BPB of every cell of the depth figure."""
    results = published(project, budget)
    cells = depth_cells(results) if results else []
    if not results or not cells:
        return absent(budget)
    key = depth_score(cells)
    arms = {(cell.path, cell.layers, cell.lr): cell.arm for cell in cells}
    rates = sorted({cell.lr for cell in cells}, key=float)
    columns = [(path, name, lr) for path, name, _ in PATHS for lr in rates]
    rows = [
        [layers, *(_depth_cell(arms.get((path, layers, lr)), key) for path, _, lr in columns)]
        for layers in sorted({cell.layers for cell in cells})
    ]
    header = ["blocks", *(f"{name}, LR {lr}" for _, name, lr in columns)]
    text = "validation" if key == "validation_bpb" else "test"
    size = results.budget.get("depth_bytes")
    note = f"BPB of the {text} text" + (
        f" after {size / 2**20:g} MiB of training text." if size else "."
    )
    made = {origin(run.made): run.made for cell in cells for run in cell.arm.runs}
    return paragraphs(table(header, rows), note, *map(conditions, made.values()))


def _depth_cell(arm: Arm | None, key: str) -> str:
    if arm is None:
        return words.MISSING
    if "diverged" in arm.status():  # its score, if it has one, is of no size that means anything
        return arm.status()
    score = struck(words.number(arm.mean(key)), arm.healthy)
    return score if arm.healthy else f"{score} {arm.status()}"


def attention(project: Project, budget: str) -> str:
    """Seconds and peak memory of the two attention kernels over the window's length."""
    results = published(project, budget)
    measured = (results.attention if results else None) or {}
    rows = {(row["kernel"], row["T"]): row for row in measured.get("rows") or []}
    if not results or not rows:
        return absent(budget)
    lines = [
        [
            T,
            *(words.significant(rows.get((k, T), {}).get("seconds"), 2) for k in _KERNELS),
            *(words.quantity(rows.get((k, T), {}).get("peak_bytes"), "B") for k in _KERNELS),
        ]
        for T in sorted({T for _, T in rows})
    ]
    header = ("T", *(f"{k}, seconds" for k in _KERNELS), *(f"{k}, peak memory" for k in _KERNELS))
    difference = words.significant(measured.get("max_abs_difference"), 2)
    note = (
        f"One forward and backward pass over {measured.get('tokens'):,} tokens, "
        f"{measured.get('heads')} heads of {measured.get('head_size')}, {measured.get('dtype')}; "
        f"largest difference between the outputs {difference}."
    )
    environment = measured.get("environment") or results.environment
    return paragraphs(table(header, lines, header), note, conditions(environment))


_KERNELS = ("explicit", "flash")


def corpus(project: Project, budget: str) -> str:
    """What text it was, and how it was split."""
    results = published(project, budget)
    if results is None:
        return absent(budget)
    sizes = results.corpus.get("bytes") or {}
    splits = ", ".join(f"{name} {size:,} bytes" for name, size in sizes.items())
    notes = results.corpus.get("notes") or []
    name = f"Corpus `{results.corpus.get('name')}`: {splits}."
    return paragraphs(bullets([name, *map(plain, notes)]), conditions(results.environment))
