"""The regions about the extended groups: what each takes, what it asks, and its published table."""

from __future__ import annotations

from typing import Any

from generator.ladder import about, struck
from generator.tables import Project, paragraphs, table
from mytnano import words
from mytnano.designs.budgets import BUDGETS, MIB
from mytnano.designs.families import EXTENDED
from mytnano.designs.groups import WIDER_GROUPS, Group, rate_of
from mytnano.designs.rungs import KNOWN
from mytnano.report.data import Results, load_results
from mytnano.report.groups import compared_with, view, was_run

FOLDER = "results/groups"
MINUTES = f"{FOLDER}/minutes.json"
SHOWN = ("quick", "standard")


def folder_of(budget: str, group: str) -> str:
    """Where a group's results at a budget are published, relative to the tree."""
    return f"{FOLDER}/{budget}/{group}"


def plan(project: Project) -> str:
    """Rungs, runs and core minutes of every group."""
    found = (project.read(MINUTES) or {}).get("budgets")
    if not found:
        return "The groups have not been planned in this tree: `python scripts/group_minutes.py`."
    rows = []
    for name, group in WIDER_GROUPS.items():
        first = found[SHOWN[0]][name]
        costs = [f"{found[budget][name]['core_minutes']:.0f}" for budget in SHOWN]
        runs = [found[budget][name]["runs"] for budget in SHOWN]
        row = (f"[`{name}`](#{name})", group.question, first["rungs"], first["searches"])
        rows.append((*row, runs[0], costs[0], runs[1], costs[1]))
    header = (
        "group", "asks", "rungs", "rates tuned", "runs, quick", "core minutes, quick",
        "runs, standard", "core minutes, standard",
    )  # fmt: skip
    sizes = words.listed([f"{BUDGETS[name].train_bytes / MIB:g} MiB at `{name}`" for name in SHOWN])
    note = (
        f"A run reads {sizes}; the runs of a search are counted in the minutes and not among the "
        "runs. Minutes are planned for one core of the reference machine in bf16, not measured."
    )
    return paragraphs(table(header, rows, header[2:]), note)


def group(project: Project, name: str) -> str:
    """The rungs of a group, and at each budget its published results."""
    found = WIDER_GROUPS[name]
    rows = []
    for id in found.ids:
        rung = KNOWN[id]
        other = compared_with(found, rung)
        own = id in EXTENDED
        rows.append(
            (
                found.members[id],
                f"`{id}`",
                f"`{other}`" if other else None,
                _rate(id) if own else "the ladder's",
                rung.paper if own else None,
            )
        )
    lines = [table(("", "rung", "compared with", "learning rate", "source"), rows)]
    decides = [f"`mytnano ablate {each}`" for each in found.verdicts]
    lines.append(
        f"The lab decides a part of this: {', '.join(decides)}."
        if decides
        else "No question of the lab decides this: what differs is a size, which its arms share."
    )
    made = [_published(project, budget, found) for budget in SHOWN]
    lines += [text for text in made if text] or [
        f"No results yet: `mytnano ladder --rungs {name} --out out/{name}` makes them."
    ]
    return paragraphs(*lines)


def _rate(id: str) -> str:
    rung = KNOWN[id]
    kind = rate_of(rung)
    if kind == "tuned":
        return "tuned"
    if kind == "scaled":
        return f"`{rung.parent}`'s, scaled by the bytes"
    return f"`{rung.parent}`'s, which `{rung.like}` did not move"


def _published(project: Project, budget: str, group: Group) -> str:
    folder = project.root / folder_of(budget, group.name)
    results = load_results(folder) if (folder / "results.json").exists() else None
    if results is None or not was_run(results, group):
        return ""
    shown = view(results, group)
    return paragraphs(f"At budget `{budget}`:", _table(shown), _decode(shown), about(results))


def _table(shown: dict[str, Any]) -> str:
    rows = []
    for line in shown["rows"]:
        arm = line["arm"]
        row = arm.runs[0].row
        against = f" (to `{line['other']}`)" if line["pairs"] and line["other"] else ""
        signs = ", ".join(words.signed(pair.difference) for pair in line["pairs"])
        rows.append(
            (
                line["label"] + (", equal FLOPs" if line["flops_matched"] else ""),
                words.quantity(row.get("params"), zeros=True),
                words.quantity(row.get("flops"), zeros=True),
                words.setting(row["lr"]) if row.get("lr") else None,
                line["rate"],
                struck(words.number(arm.mean()), arm.healthy),
                " ".join(struck(words.number(run.bpb), run.healthy) for run in arm.runs),
                signs + against if signs else "",
                arm.status(),
            )
        )
    header = (
        "", "parameters", "FLOPs", "LR", "where the LR is from", "BPB", "each seed",
        f"difference to `{shown['base']}`", "status",
    )  # fmt: skip
    return table(header, rows, ("parameters", "FLOPs", "LR", "BPB"))


def _decode(shown: dict[str, Any]) -> str:
    decode = shown["decode"]
    if not decode:
        return ""
    header = ("", "cache a token", *(f"tokens/s, window of {n}" for n in decode["lengths"]))
    rows = [
        (label, f"{size} B", *(words.quantity(speed, zeros=True) for speed in speeds))
        for label, size, speeds in decode["rows"]
    ]
    return paragraphs(table(header, rows, header[1:]), f"{decode['conditions']}.")


def published_groups(results: Results) -> list[Group]:
    """The groups that results have something to show of."""
    return [each for each in WIDER_GROUPS.values() if was_run(results, each)]


def evidence(project: Project) -> str:
    """The core steps whose sweeps allow a rate to be inherited, with what they measured."""
    sweep = (project.read("src/mytnano/designs/learning_rates.json") or {}).get("rungs")
    if not sweep:
        return "No rates are tuned yet: `mytnano ladder --tune` measures them."
    rows = []
    likes = {rung.like for rung in EXTENDED.values() if rung.like}
    for like in sorted(id for id in likes if {id, KNOWN[id].parent} <= set(sweep)):
        before, after = (sweep[id]["lr"] for id in (KNOWN[like].parent, like))
        users = [f"`{id}`" for id, rung in EXTENDED.items() if rung.like == like]
        moved = f"{100 * (after / before - 1):+.0f} %".replace("-", "−")
        rows.append((f"`{like}`", words.setting(before), words.setting(after), moved,
                     ", ".join(users)))  # fmt: skip
    header = ("core step", "rate before", "rate after", "moved by", "inherit for it")
    return table(header, rows, header[1:4])
