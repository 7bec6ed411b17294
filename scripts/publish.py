"""Publish results: copy what was measured into results/, and fill the documents from it.

    python scripts/publish.py ladder FOLDER     an output folder of `mytnano ladder`
    python scripts/publish.py precision FOLDER  one that repeats published runs in another
                                                precision, to stand beside them
    python scripts/publish.py groups FOLDER     the extended groups in an output folder, each to a
                                                folder of its own
    python scripts/publish.py answer FOLDER     an answer that `mytnano ablate` gave
    python scripts/publish.py claims FOLDER     evidence that `mytnano claims run` left there
    python scripts/publish.py model RUN         a model that `mytnano train` made
    python scripts/publish.py forecast FOLDER   a forecast by `mytnano forecast --budget full`
    python scripts/publish.py scale [FILE ...]  measure memory and the coordinate check anew, or
                                                publish what loader_bench.py and lr_transfer.py
                                                wrote
    python scripts/publish.py fresh             clone this commit, time `make ladder` and
                                                `make test` there, publish the quick run and both
                                                times

Results that are not comparable, or that were made from a changed tree, are refused, and so is a
ladder that lacks runs which are published (unless --add keeps them, or --replace drops them).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import generate
from generator.claims import FOLDER as CLAIMS
from generator.groups import folder_of as group_folder
from generator.groups import published_groups
from generator.lab import FOLDER as ANSWERS
from generator.ladder import folder_of
from generator.models import FOLDER as MODELS
from generator.precision import FOLDER as PRECISION
from generator.scale import FORECAST, FORECAST_FIGURE
from generator.sources import COMMANDS_FILE
from generator.tables import environments_of

from mytnano.claims.evidence import FILE as EVIDENCE
from mytnano.designs.rungs import RUNGS
from mytnano.errors import UserError
from mytnano.files import atomic_write_bytes, atomic_write_json, atomic_write_text
from mytnano.ladder.decode_speed import GROUP as DECODED
from mytnano.ladder.results import CSV as ROWS
from mytnano.ladder.results import as_most, united, with_origins, write_csv
from mytnano.report.data import load_results
from mytnano.report.html import write_report
from mytnano.run_files import (
    ATTENTION,
    BASELINES,
    CONFIG,
    DECODE,
    GROUP_RATES,
    MADE,
    METRICS,
    RESULT,
    RESULTS,
    RUNS,
    SAMPLES,
)

ROOT = Path(__file__).resolve().parent.parent
FILES = (ROWS, RESULTS, BASELINES, ATTENTION, GROUP_RATES, DECODE, "report.html")
GROUP_FILES = (BASELINES, GROUP_RATES, DECODE)
MODEL_FILES = (CONFIG, RESULT, METRICS, SAMPLES)
ANSWER_FILES = ("answer.json", ROWS)
SCALE_FILES = ("loader.json", "lr_transfer.json")
FORECAST_FILES = ("forecast.json", "runs.csv")
FORECAST_BUDGET = "full"
SCALE = {"scripts/coordinate_check.py": "coordinates.json", "scripts/memory_plan.py": "memory.json"}
CORPUS = "sotu"
TIMED = ("make ladder", "make test")
QUICK = "out/ladder-quick"
DEPTHS = "ARGS=--rungs depth"


def publish(folder: Path, root: Path, replace: bool = False, add: bool = False) -> Path:
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
        UserError: as :func:`publish`.
    """
    results = checked(folder)
    name = f"{results['budget']['name']}-{results['environment']['precision']}"
    return copy((ROWS, RESULTS), folder, root / PRECISION / name)


def publish_groups(folder: Path, root: Path) -> list[Path]:
    """Copy of each extended group that was run as a whole its rows and what stands beside them.

    The report is written anew from them, so it is of the group alone.

    Raises:
        UserError: as :func:`publish`, or no group was run as a whole.
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


def json_of(path: Path) -> dict:
    """What a JSON file holds; nothing if there is none."""
    return json.loads(path.read_bytes()) if path.exists() else {}


def publish_model(folder: Path, root: Path) -> Path:
    """Copy of a finished model's folder what describes it, but for its weights and tokenizer.

    Raises:
        UserError: it is no finished run of `mytnano train`, or was made from a changed tree.
    """
    try:
        result = json.loads((folder / RESULT).read_bytes())
        name = f"{result['rung']}-{result['size']}"
        commit = result["environment"]["commit"]
    except (OSError, ValueError, KeyError):
        raise UserError(f"{folder} holds no finished model: `mytnano train` makes one") from None
    fit_to_publish(folder, commit)
    return copy(MODEL_FILES, folder, root / MODELS / name)


def publish_answer(folder: Path, root: Path) -> Path:
    """Copy of an ablation's folder its answer and its runs, under the folder's name.

    Raises:
        UserError: there is no final answer, or it was made from a changed tree.
    """
    try:
        answer = json.loads((folder / ANSWER_FILES[0]).read_bytes())
        final = answer["final"]
        commits = [each["commit"] for each in environments_of(answer)]
    except (OSError, ValueError, KeyError):
        raise UserError(f"{folder} holds no answer: `mytnano ablate` gives one") from None
    if not final:
        raise UserError(f"the answer in {folder} is not final: continue `mytnano ablate`")
    for commit in commits:
        fit_to_publish(folder, commit)
    name = folder.resolve().name.removeprefix("ablate-")
    return copy(ANSWER_FILES, folder, root / ANSWERS / name)


def publish_forecast(folder: Path, root: Path) -> Path:
    """Copy a forecast and its runs to the results, and its figure to the documents.

    Raises:
        UserError: it is none of `mytnano forecast --budget full`, or was made from a changed tree.
    """
    try:
        found = json.loads((folder / FORECAST_FILES[0]).read_bytes())
        budget, made = found["budget"], environments_of(found)
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"{folder} holds no runs with their forecast: `mytnano forecast` makes both"
        ) from None
    if budget != FORECAST_BUDGET:
        raise UserError(f"a forecast of budget {budget} means nothing and is not published")
    for each in made:
        fit_to_publish(folder, each.get("commit") or "")
    copy((FORECAST_FIGURE.name,), folder, root / FORECAST_FIGURE.parent)
    evidence = found | {"environment": made[0]}
    atomic_write_json(root / CLAIMS / FORECAST_FILES[0], evidence)
    return copy(FORECAST_FILES, folder, root / FORECAST)


def publish_scale(files: list[Path], root: Path) -> None:
    """Copy results of the scripts about larger models.

    Raises:
        UserError: a file is none of them, or was made from a changed tree.
    """
    for file in files:
        if file.name not in SCALE_FILES:
            raise UserError(f"{file} is none of {' and '.join(SCALE_FILES)}")
        try:
            commit = json.loads(file.read_bytes())["environment"]["commit"]
        except (OSError, ValueError, KeyError):
            raise UserError(f"{file} is missing or damaged: measure it again") from None
        fit_to_publish(file, commit or "")
        copy((file.name,), file.parent, root / "results/scale")


def measure_scale(root: Path) -> None:
    """Run the two measurements of docs/scale.md and docs/forecast.md in a clone of this commit."""
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "--quiet", root, clone], check=True)
        outside = {**os.environ, "PYTHONPATH": str(clone / "src")}
        for script, name in SCALE.items():
            subprocess.run([sys.executable, script], cwd=clone, env=outside, check=True)
            file = clone / "results/scale" / name
            found = json.loads(file.read_bytes())
            for each in found.get("shapes", {"all": found}).values():
                fit_to_publish(file, each["environment"]["commit"])
            copy((name,), file.parent, root / "results/scale")


def publish_claims(folder: Path, root: Path) -> list[Path]:
    """Copy every ``NAME/evidence.json`` into the package, and its runs to the results.

    Raises:
        UserError: there is none, or one was made from a changed tree.
    """
    files = sorted(folder.glob(f"*/{EVIDENCE}"))
    if not files:
        raise UserError(f"{folder} has no evidence: `mytnano claims run` makes it")
    for file in files:
        for each in environments_of(json.loads(file.read_bytes())):
            fit_to_publish(file.parent, each["commit"])
    for file in files:
        atomic_write_bytes(root / CLAIMS / f"{file.parent.name}.json", file.read_bytes())
        copy((ROWS,), file.parent, root / "results/claims" / file.parent.name)
    return files


def copy(names: tuple[str, ...], folder: Path, target: Path) -> Path:
    """Copy files; those that the folder does not have are removed from the target."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        source = folder / name
        if source.exists():
            atomic_write_bytes(target / name, source.read_bytes())
        else:
            (target / name).unlink(missing_ok=True)
    return target


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


def fit_to_publish(folder: Path, commit: str) -> None:
    """Refuse what was made from a changed tree."""
    if not commit or commit.endswith("+"):
        raise UserError(
            f"{folder} was made from a changed tree or outside of a checkout: "
            "commit, then run again in a new folder"
        )


def measure_fresh(root: Path, words: list[str], note: str = "", only: str = "") -> None:
    """Clone, time both commands or one of them, and publish what the ladder left.

    Each time is written when it is known. The clone is kept if a command fails.
    """
    clone = Path(tempfile.mkdtemp(prefix="mytnano-")) / "clone"
    subprocess.run(["git", "clone", "--quiet", root, clone], check=True)
    ladder, tests = TIMED
    try:
        if only != tests:
            timed = run_timed(ladder, clone, words)
            made = checked(clone / QUICK)["environment"]
            keep_time(root, timed, note, made)
            # The cells of the depth figure, which `make ladder` leaves out.
            run_timed(ladder, clone, [*words, DEPTHS])
            publish(clone / QUICK, root)
        if only != ladder:
            keep_time(root, run_timed(tests, clone, words), note)
    except UserError as error:
        raise UserError(f"{error}; it is kept in {clone}") from None
    shutil.rmtree(clone.parent)


def keep_time(root: Path, timed: dict, note: str, environment: dict | None = None) -> None:
    """Write how long a command took beside what is known of the other one."""
    found = json_of(root / COMMANDS_FILE)
    others = {each["command"]: each for each in found.get("commands", [])}
    by_name = others | {timed["command"]: timed | ({"note": note} if note else {})}
    atomic_write_json(
        root / COMMANDS_FILE,
        {
            "environment": environment or found.get("environment", {}),
            "commands": [by_name[name] for name in TIMED if name in by_name],
        },
    )


def run_timed(command: str, folder: Path, words: list[str]) -> dict[str, Any]:
    """Run a command, showing its output; its seconds and the last line that it printed.

    Raises:
        UserError: it failed.
    """
    print(f"$ {' '.join([command, *words])}", flush=True)
    started, last = time.monotonic(), ""
    # Under make itself, what it hands down would make the inner one print that it enters folders.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    with subprocess.Popen(
        [*command.split(), *words],
        cwd=folder,
        env=outside,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            last = line.strip() or last
    if process.returncode:
        raise UserError(f"`{command}` ended with exit code {process.returncode} in a fresh clone")
    # A path of this machine's temporary folder says nothing elsewhere.
    last = re.sub(re.escape(str(folder)) + "/?", "", last)
    seconds = time.monotonic() - started
    words = ["git", "rev-parse", "--short=12", "HEAD"]
    head = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout
    return {"command": command, "seconds": seconds, "last_line": last, "commit": head.strip()}


def parser() -> argparse.ArgumentParser:
    """The command line: a verb for each kind of result."""
    whole = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="KIND")
    for verb in ("ladder", "precision", "groups", "answer", "claims", "model", "forecast"):
        verbs.add_parser(verb).add_argument("folder", type=Path)
    lacking = verbs.choices["ladder"].add_mutually_exclusive_group()
    lacking.add_argument(
        "--replace", action="store_true", help="also if published runs are not in FOLDER"
    )
    lacking.add_argument("--add", action="store_true", help="keep published runs that FOLDER lacks")
    verbs.add_parser("scale").add_argument("files", nargs="*", type=Path, metavar="FILE")
    fresh = verbs.add_parser("fresh")
    fresh.add_argument("words", nargs="*", metavar="NAME=VALUE", help="passed on to make")
    fresh.add_argument("--only", choices=TIMED, default="", help="time this command alone")
    fresh.add_argument("--note", default="", help="what the reader should know of the machine")
    return whole


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Exit code 0, or 2 with a sentence about what to fix."""
    given = parser().parse_args(arguments)
    kinds = {
        "precision": publish_precision,
        "groups": publish_groups,
        "answer": publish_answer,
        "claims": publish_claims,
        "forecast": publish_forecast,
        "model": publish_model,
    }
    try:
        if given.verb == "fresh":
            measure_fresh(root, given.words, given.note, given.only)
        elif given.verb == "scale":
            publish_scale(given.files, root) if given.files else measure_scale(root)
        elif given.verb == "ladder":
            publish(given.folder, root, given.replace, given.add)
        else:
            kinds[given.verb](given.folder, root)
    except (UserError, subprocess.CalledProcessError) as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    return generate.main([], root)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
