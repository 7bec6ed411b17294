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
                                                publish what gpu_check.py, loader_bench.py,
                                                lr_transfer.py or whole_recipe.py wrote
    python scripts/publish.py fresh             clone this commit, time `make ladder` and
                                                `make test` there, publish the quick run and both
                                                times

Results that are not comparable, or that were made from a changed tree, are refused, and so is a
ladder that lacks runs which are published (unless --add keeps them, or --replace drops them).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import generate
from publisher.fresh import TIMED, measure_fresh
from publisher.ladders import publish_groups, publish_ladder, publish_precision
from publisher.larger import measure_scale, publish_forecast, publish_scale
from publisher.single import publish_answer, publish_claims, publish_model

from mytnano.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


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
            publish_ladder(given.folder, root, given.replace, given.add)
        else:
            kinds[given.verb](given.folder, root)
    except (UserError, subprocess.CalledProcessError) as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    return generate.main([], root)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
