"""The command line: thin verbs, one sentence for every mistake, exit codes that scripts can use.

0 done; 1 a run failed; 2 something to mend, said in one sentence; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys

import typer

from mytnano.cli import lab, ladder, models, scale
from mytnano.errors import UserError

INTERRUPTED = 130

VERBS = {
    "ladder": ladder.ladder,
    "explain": ladder.explain,
    "report": ladder.report,
    "ablate": lab.ablate,
    "claims": lab.claims,
    "verdict": lab.verdict,
    "train": models.train,
    "sample": models.sample,
    "eval": models.evaluate,
    "export": models.export,
    "shard": scale.shard,
    "plan": scale.plan,
    "forecast": scale.forecast,
    "bench": ladder.bench,
}
"""In the order of ``--help``."""

app = typer.Typer(
    help="A transformer design lab: every design step of a small language model, trained, "
    "measured in bits per byte, and judged.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for name, verb in VERBS.items():
    app.command(name)(verb)


def main() -> None:
    """Entry point: turns what the user can mend into a sentence and exit code 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        code = fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `mytnano ladder | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        # A mistake on the command line. Its class is click's, or that of typer's own copy of click.
        if not hasattr(error, "format_message"):
            raise
        code = fail(f"{error.format_message().rstrip('.')}; see {hint()} --help")
    if (
        code == INTERRUPTED and os.environ.get("RANK", "0") == "0"
    ):  # which some versions of typer return, and some raise
        from mytnano.runs.jobs import STOPPED

        print(f"\n{STOPPED}", file=sys.stderr)
    sys.exit(code)


def hint() -> str:
    """The command whose help is wanted."""
    words = sys.argv[1:2]
    return " ".join(["mytnano", *(word for word in words if word in VERBS)])


def fail(sentence: str) -> int:
    """Say what is to be mended; the exit code for it. Of torchrun's ranks one speaks for all."""
    if os.environ.get("RANK", "0") == "0":
        print(f"mytnano: {sentence}", file=sys.stderr)
    return 2
