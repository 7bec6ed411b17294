"""Regions about the rule that decides verdicts: its constants, and what simulation says of it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from generator.tables import Project, conditions, paragraphs, table
from mytnano import words

FILE = "results/stats/null.json"
TWINS = "results/stats/twins.json"

CONSTANTS = [
    ("stats.eprocess", "G", "prior variance of the effect, in squared paired deviations"),
    ("stats.eprocess", "FEWEST", "pairs before which nothing is decided"),
    ("stats.power", "POWER", "probability with which a minimum detectable effect is found"),
    ("stats.power", "DRAWS", "simulated experiments behind it"),
    ("stats.fixed", "RESAMPLES", "sign patterns of the permutation test; all of them if fewer"),
    ("stats.multiplier", "ROUGH", "share of the curve's fall by which a loss may be moved"),
    ("verdicts.question", "LEVEL", "ratio of FLOPs from which on they are two amounts"),
    ("verdicts.question", "MATCHED", "share by which FLOPs may differ without a note"),
]

Row = dict[str, Any]


def constants(project: Project) -> str:
    """The constants behind the page's sentences, with their present values."""
    rows = []
    for module, name, meaning in CONSTANTS:
        value = getattr(import_module(f"mytnano.{module}"), name)
        rows.append((meaning, f"`{name}`", value, f"`{module}`"))
    return table(("meaning", "constant", "value", "module of `mytnano`"), rows, ("value",))


def errors(project: Project) -> str:
    """How often the rule was wrong in simulation."""
    study = project.read(FILE)
    if study is None:
        return _absent()
    rows = [
        *_error_rows("equal arms called different", study["different"], ("noise", "g")),
        *_error_rows("any of the arms of a question, all equal", study["families"], ("arms",)),
        *_error_rows("arms that differ by the margin called equivalent", study["equivalent"], ()),
        *_error_rows("for contrast: the paired t, looked at as often", study["peeking_t"], ()),
    ]
    header = ("what is wrong", "in", "alpha", "experiments", "wrong", "95 % limits")
    return paragraphs(table(header, rows, header[2:]), _about(study))


def _error_rows(what: str, rows: list[Row], told: tuple[str, ...]) -> list[tuple[Any, ...]]:
    found = []
    for row in rows:
        parts = {"noise": "{noise}", "g": "g = {g:g}", "arms": "{arms} arms"}
        where = ", ".join(parts[name].format(**row) for name in told)
        wrong = words.percent(row["wrong"] / row["experiments"])
        limits = f"{100 * row['low']:.2f} to {100 * row['high']:.2f}\u202f%"
        found.append((what, where, row["alpha"], f"{row['experiments']:,}", wrong, limits))
    return found


def twins(project: Project) -> str:
    """How often the rule was wrong on real runs that differ in nothing but their salt."""
    study = project.read(TWINS)
    if study is None:
        return (
            "No real twins have been trained in this tree: `scripts/twins.py FOLDER` does that, "
            "and `make docs` shows it."
        )
    rows = [
        (
            row["alpha"],
            row["ablations"],
            row["wrong"],
            f"{100 * row['low']:.1f} to {100 * row['high']:.1f}\u202f%",
            ", ".join(f"{count} {said}" for said, count in sorted(row["said"].items())),
        )
        for row in study["rows"]
    ]
    header = ("alpha", "pseudo-ablations", "wrong", "95 % limits", "said")
    text = (
        f"{study['twins']} twins of `{study['design']}`, {study['train_bytes'] // 1024} KiB of "
        f"training text each, mean {study['mean']:.3f} BPB, deviation "
        f"{study['deviation_percent']:.2f} % between twins; {study['twins'] // 2} pairs in each "
        "pseudo-ablation, looked at after every one. Pairings share runs, so the limits are too "
        "narrow for what they say."
    )
    return paragraphs(table(header, rows, header[:3]), f"{text} {conditions(study['environment'])}")


def planted(project: Project) -> str:
    """What the rule found of planted differences."""
    study = project.read(FILE)
    if study is None:
        return _absent()
    counts = list(study["planted"][0]["found"])
    header = ("effect", "g", *(f"found by {n}" for n in counts), "median pairs")
    rows = []
    for row in study["planted"]:
        shares = [words.percent(row["found"][n]) for n in counts]
        most = f"more than {study['looks'][1]}"
        median = most if row["median"] is None else f"{row['median']:g}"
        rows.append((f"{row['effect']:g}", f"{row['g']:g}", *shares, median))
    alpha = f"alpha {study['planted'][0]['alpha']:g}; effects in paired standard deviations."
    return paragraphs(table(header, rows, header), f"{alpha} {_about(study)}")


def detectable(project: Project) -> str:
    """The least effects that a number of pairs finds."""
    study = project.read(FILE)
    if study is None:
        return _absent()
    rows = study["detectable"]["rows"]
    header = tuple(rows[0])
    cells = [[row["pairs"], *(words.number(row[name], 2) for name in header[1:])] for row in rows]
    note = (
        f"In paired standard deviations, found with probability {study['detectable']['power']:g}; "
        "a dash: these pairs cannot decide at this level."
    )
    return paragraphs(table(header, cells, header), f"{note} {_about(study)}")


def _about(study: Row) -> str:
    first, last = study["looks"]
    looks = f"Looked at after every pair from {first} to {last}."
    return f"{looks} {conditions(study.get('environment'))}"


def _absent() -> str:
    return (
        "The rule has not been simulated in this tree: `scripts/simulate.py` does that, and "
        "`make docs` shows it."
    )
