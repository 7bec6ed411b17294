"""Regions about the choices that come with the package: rates, vocabulary, budgets, constants."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from generator.tables import Project, byte_size, conditions, older, paragraphs, table
from mytnano import words
from mytnano.config import RunConfig, role
from mytnano.designs.budgets import BATCH_WINDOWS, BUDGETS, MIB
from mytnano.designs.rates import learning_rate_for
from mytnano.designs.rungs import RUNGS, design, select
from mytnano.ladder.tune import exploded

DESIGNS = "src/mytnano/designs"
TUNE = "mytnano ladder --tune"


def rates(project: Project) -> str:
    """The tuned learning rate of each core rung, with every point that was measured."""
    sweep = project.read(f"{DESIGNS}/learning_rates.json") or {}
    if not sweep.get("rungs"):
        return f"No rates are tuned yet: `{TUNE}` measures them into the output folder."
    return _sweep_table("rung", sweep)


def vocabulary(project: Project) -> str:
    """The sizes of the trained BPE that were tried, each at its own best rate."""
    sweep = project.read(f"{DESIGNS}/vocabulary.json")
    if not sweep or not sweep.get("rungs"):
        return f"No vocabulary sweep is published yet: `{TUNE}` measures it into the output folder."
    note = f"Chosen: `{sweep['best']}`." if sweep.get("best") else ""
    if sweep.get("best") == list(sweep["rungs"])[-1]:
        note += " It is the largest that was tried, so a larger one may be better."
    return paragraphs(note, _sweep_table("vocabulary", sweep))


def _sweep_table(what: str, sweep: dict[str, Any]) -> str:
    rows = []
    for id, entry in sweep["rungs"].items():
        losses = [loss for _, loss in entry["points"] if loss is not None]
        shape = "flat" if entry["flat"] else "interior" if entry["interior"] else "at the edge"
        best = min(losses, default=None)
        lr = words.setting(entry["lr"])
        rows.append((f"`{id}`", lr, shape, words.number(best), _tried(entry)))
    header = (what, "LR", "minimum", "lowest validation BPB", "LR tried: validation BPB")
    seeds = words.listed([str(seed) for seed in sweep.get("seeds") or ["unrecorded"]])
    size = f"{sweep['train_bytes'] / MIB:g} MiB of training text a run"
    note = f"Corpus `{sweep.get('corpus', 'unrecorded')}`, {size}, seeds: {seeds}."
    text = f"{note} {conditions(sweep.get('environment'))}{older(sweep)}"
    return paragraphs(table(header, rows, ("LR", "lowest validation BPB")), text)


def rate_rule(project: Project) -> str:
    """The written rule for other budgets beside what a sweep there found."""
    parts = []
    for path in project.files("results/tuning/*.json"):
        sweep = project.read(path)
        if not isinstance(sweep, dict) or not sweep.get("rungs") or not sweep.get("train_bytes"):
            continue
        rows = [
            (f"`{id}`", words.setting(learning_rate_for(id, sweep["train_bytes"])), entry)
            for id, entry in sweep["rungs"].items()
            if id in RUNGS
        ]
        listing = [(id, by_rule, words.setting(e["lr"]), _tried(e)) for id, by_rule, e in rows]
        header = ("rung", "LR by the rule", "LR found", "LR tried: validation BPB")
        size = f"`{path}`: {sweep['train_bytes'] / MIB:g} MiB of training text a run."
        text = f"{size} {conditions(sweep.get('environment'))}{older(sweep)}"
        parts += [table(header, listing, ("LR by the rule", "LR found")), text]
    if parts:
        return paragraphs(*parts)
    return (
        "The rule has not been checked at another budget in this tree: "
        "`mytnano ladder --budget standard --tune` measures rates there."
    )


def recipe_rates(project: Project) -> str:
    """What the rates of the recipes were taken from."""
    found = project.read("results/tuning/recipes.json")
    if not found:
        return "Not measured in this tree: `scripts/recipe_rates.py FOLDER` does it."
    rows = []
    for name, entry in found["recipes"].items():
        shape = "flat" if entry["flat"] else "interior" if entry["interior"] else "at the edge"
        shown = (words.setting(entry[key]) for key in ("lr", "rate"))
        rows.append((f"`{name}`", *shown, shape, _tried(entry)))
    header = (
        "recipe", "LR found", "at width 128, 1 KiB a step, 1 MiB", "minimum",
        "LR tried: validation BPB",
    )  # fmt: skip
    seeds = words.listed([str(seed) for seed in found["seeds"]])
    note = f"`results/tuning/recipes.json`: corpus `{found['corpus']}`, size `{found['size']}`, "
    note += f"means of the seeds {seeds}."
    return paragraphs(
        table(header, rows, header[1:3]), f"{note} {conditions(found.get('environment'))}"
    )


def _tried(entry: dict[str, Any]) -> str:
    best = min((loss for _, loss in entry["points"] if loss is not None), default=0.0)
    return " · ".join(f"{words.setting(lr)}: {_loss(loss, best)}" for lr, loss in entry["points"])


def _loss(loss: float | None, best: float) -> str:
    if loss is None:
        return "diverged"
    return f"{words.number(loss)}{' (exploded)' if exploded(loss, best) else ''}"


MORE_SEEDS = "core and extended groups"


def budgets(project: Project) -> str:
    """What each budget trains and scores."""
    header = ("budget", "training text a run", "seeds", "rungs", "test text")
    rows = []
    for budget in BUDGETS.values():
        more = f"{budget.seeds} ({MORE_SEEDS}), {budget.other_seeds} (the rest)"
        rows.append(
            (
                f"`{budget.name}`",
                byte_size(budget.train_bytes),
                more if budget.other_seeds != budget.seeds else budget.seeds,
                f"{len(select(list(budget.groups)))} ({', '.join(budget.groups)})",
                f"first {byte_size(budget.test_bytes)}" if budget.test_bytes else "all",
            )
        )
    exceptions = ", ".join(
        f"`{b.name}`: {byte_size(b.depth_bytes)} for a depth cell"
        + (f", {byte_size(b.long_bytes)} for the long run" if "long" in b.groups else "")
        for b in BUDGETS.values()
        if "depth" in b.groups
    )
    long = design("mytnano-long")
    step = (
        f"A step trains on {BATCH_WINDOWS} windows of {design('bigram').data.window_bytes} "
        f"bytes, that of the long run on {long.train.batch_windows} of {long.data.window_bytes}; "
        f"other sizes: {exceptions}."
    )
    return paragraphs(table(header, rows), step)


def settings(project: Project, section: str) -> str:
    """Every setting of one section of a run's configuration, from its declaration."""
    model = RunConfig.model_fields[section].annotation
    rows = [
        (f"`{name}`", f"`{_default(field.get_default())}`", role(model, name), field.description)
        for name, field in model.model_fields.items()
    ]
    return table(("setting", "default", "role", "meaning"), rows)


def _default(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) if value != "" else '""'


CONSTANTS: dict[str, list[tuple[str, str, str]]] = {
    "status": [
        ("measure.status", "NEAR", "share of a k-gram's score above which a model is no better"),
        (
            "measure.status",
            "IGNORES",
            "bits of KL, for k = 0 and 1, below which older context is ignored",
        ),
        ("measure.status", "FALLING", "share by which a loss still falls over the second half"),
        ("measure.status", "LEAVING", "or share of the way from uniform guessing made in it"),
    ],
    "tuning": [
        ("ladder.tune", "BASE", "rate of exponent 0"),
        ("ladder.tune", "START", "exponents of two that are tried first"),
        ("ladder.tune", "LOWEST", "smallest exponent"),
        ("ladder.tune", "HIGHEST", "largest exponent"),
        ("ladder.tune", "MOST_POINTS", "most points a design gets"),
        ("ladder.tune", "EXPLODED", "times the best loss above which a neighbour has exploded"),
        ("ladder.tune", "FLAT", "share of the loss below which the rate does not matter"),
        ("designs.rates", "BYTES_EXPONENT", "power of the byte budget that scales a rate"),
    ],
    "text": [
        ("text.corpus", "SMALLEST_CORPUS", "least bytes of a corpus"),
        ("text.corpus", "FEWEST_DOCUMENTS", "fewer documents than this are cut into blocks"),
        ("text.corpus", "LARGEST_SHARE", "or with a document above this share of the bytes"),
        ("text.corpus", "SMALLEST_SPLIT", "least bytes of each split"),
        ("text.readers", "BLOCK_BYTES", "bytes of a block of a text without borders, about"),
        ("text.splits", "SHINGLE", "bytes of a passage that counts as a near-duplicate"),
        ("text.readers", "HUB_BYTES", "bytes taken from a hub data set"),
    ],
    "engine": [
        ("model.attention", "TILE", "query rows of a tile"),
        ("model.attention", "TILED_UP_TO", "longest window that is tiled on a CPU"),
        ("model.loss", "CHUNK_ELEMENTS", "logits held at once"),
        ("model.loss", "CHUNK_ROWS", "but at least those of so many tokens"),
        ("model.loss", "BLOCK_ELEMENTS", "logits of one softmax"),
        ("model.loss", "LARGE_VOCABULARY", "vocabulary beyond which bf16 goes by columns"),
        ("model.loss", "COLUMNS", "tokens of the vocabulary in a block of columns"),
        ("training.engine", "MICRO_TOKENS", "tokens of one pass on a CPU"),
        ("training.precision", "PAYS", "speed-up from which bf16 is chosen"),
    ],
}
"""Constants that the documents speak of: module, name, meaning. The values are read from it."""


def constants(project: Project, page: str) -> str:
    """The constants behind a page's sentences, with their present values."""
    rows = []
    for module, name, meaning in CONSTANTS[page]:
        value = getattr(import_module(f"mytnano.{module}"), name)
        rows.append((meaning, f"`{name}`", value, f"`{module}`"))
    return table(("meaning", "constant", "value", "module of `mytnano`"), rows, ("value",))
