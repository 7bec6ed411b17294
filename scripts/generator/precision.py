"""The region that sets one ladder beside the same runs in another arithmetic."""

from __future__ import annotations

import statistics

from generator.ladder import about, folder_of
from generator.tables import Project, paragraphs, table
from mytnano import words
from mytnano.report.data import Results, Run, load_results

FOLDER = "results/precision"


def precision(project: Project) -> str:
    """Every ladder in :data:`FOLDER` against the published one of its budget, run by run."""
    parts: list[str] = []
    for path in project.files(f"{FOLDER}/*/results.json"):
        other = load_results((project.root / path).parent)
        published = project.root / folder_of(other.budget["name"])
        if (published / "results.json").exists():
            parts += _compared(load_results(published), other)
    return paragraphs(*parts) if parts else (
        "No ladder has been repeated in another precision in this tree: `mytnano ladder "
        "--precision fp32` makes one, and `scripts/publish.py precision FOLDER` publishes it."
    )  # fmt: skip


def _compared(one: Results, other: Results) -> list[str]:
    names = [str(results.environment.get("precision")) for results in (one, other)]
    rows, differences = [], []
    for id, arm in one.arms.items():
        twins = {run.seed: run for run in other.arms[id].runs} if id in other.arms else {}
        for run in arm.runs:
            pair = _scores(run, twins.get(run.seed))
            if pair:
                differences.append(pair[1] - pair[0])
                numbers = [words.number(value) for value in pair]
                rows.append([f"`{id}`", run.seed, *numbers, f"{differences[-1]:+.4f}"])
    if not rows:
        return []
    header = ["rung", "seed", *names, f"{names[1]} minus {names[0]}"]
    return [
        table(header, rows, header[1:]),
        _said(differences, names),
        f"{names[0]}: {about(one)}",
        f"{names[1]}: {about(other)}",
    ]


def _scores(run: Run, twin: Run | None) -> tuple[float, float] | None:
    """Test BPB of two runs of one seed; None unless both have one."""
    pair = (run.bpb, twin.bpb if twin else None)
    return None if None in pair else pair  # type: ignore[return-value]


def _said(differences: list[float], names: list[str]) -> str:
    mean, count = statistics.fmean(differences), len(differences)
    error = f" ± {statistics.stdev(differences) / count**0.5:.4f}" if count > 1 else ""
    above = sum(difference > 0 for difference in differences)
    return (
        f"Over {count} runs the mean difference is {mean:+.4f}{error} BPB (standard error); "
        f"{names[1]} is higher in {above} of them."
    )
