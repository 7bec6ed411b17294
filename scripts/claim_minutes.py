"""What the ablations of the claims would take: writes src/mytnano/claims/minutes.json.

    python scripts/claim_minutes.py

Core minutes if every seed is needed, by the lab's own estimate, from the speed of this machine on
one thread; nothing is trained.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import resources
from pathlib import Path

from rich.console import Console

from mytnano.claims.ledger import ledger, question_file
from mytnano.config import DataConfig
from mytnano.environment import environment
from mytnano.files import atomic_write_json
from mytnano.lab.cells import Runner
from mytnano.lab.plan import make_plan
from mytnano.lab.run import longest
from mytnano.lab.spec import read_spec
from mytnano.ladder.cells import Where
from mytnano.training.precision import choose_precision, tokens_per_second

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "src/mytnano/claims/minutes.json"


def planned(where: Where) -> dict[str, float]:
    """Ablation -> core minutes."""
    runner = Runner(
        where, 1, tokens_per_second(where.precision, where.device, 1), Console(quiet=True)
    )
    found = {}
    for name in sorted({name for claim in ledger().values() for name in claim.questions}):
        with resources.as_file(question_file(name)) as path:
            found[name] = round(longest(make_plan(read_spec(path), where), runner) / 60, 1)
        print(f"{name}: {found[name]} core minutes", flush=True)
    return found


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    precision, _ = choose_precision("cpu")
    with tempfile.TemporaryDirectory() as folder:
        where = Where(DataConfig(), Path(folder), precision, "cpu")
        content = {"minutes": planned(where), "environment": environment("cpu", precision)}
    atomic_write_json(FILE, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
