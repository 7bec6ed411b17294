"""The command line: thin verbs, one sentence for every mistake, exit codes that scripts can use.

0 done; 1 a run failed; 2 something to fix, said in one sentence; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from typing import Annotated

import typer

from mytnano import __version__
from mytnano.cli import bench, lab, ladder, models, scale
from mytnano.errors import UserError, out_of_memory
from mytnano.terminal import is_chief

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
    "bench": bench.bench,
}
"""In the order of ``--help``."""

RESUMABLE = {"ladder", "ablate", "claims", "train", "shard", "forecast"}
"""Verbs that go on where they were stopped."""

STOPPED = "stopped; the same command continues"
"""What they say when Ctrl-C ends them."""


TOO_LARGE = (
    "this takes more memory than there is: give smaller windows, fewer of them at once, or a "
    "smaller model (window_bytes, batch_windows, width, layers)"
)


def paragraphs(docstring: str | None) -> str:
    """A docstring with each paragraph in one line, which the terminal's width then breaks."""
    parts = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(part.replace("\n", " ") for part in parts)


app = typer.Typer(
    help="A transformer design lab: every design step of a small language model, trained, "
    "measured in bits per byte, and judged.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, verb in VERBS.items():
    app.command(name, help=paragraphs(verb.__doc__))(verb)


def show_version(wanted: bool) -> None:
    """Print the version and leave, if that is what is wanted."""
    if wanted:
        print(f"mytnano {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=show_version
        ),
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Entry point: turns what the user can fix into a sentence and exit code 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character shows another
            stream.reconfigure(errors="replace")
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        fail(str(error))
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `mytnano ladder | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        if out_of_memory(error):
            sys.exit(fail(TOO_LARGE))
        # A mistake on the command line. Its class is click's, or that of typer's own copy of click.
        if not hasattr(error, "format_message"):
            raise
        code = fail(f"{mistake(error.format_message())}; see {hint()} --help")
    if code == INTERRUPTED and is_chief():  # which some versions of typer return, and some raise
        print(f"\n{STOPPED if sys.argv[1] in RESUMABLE else 'stopped'}", file=sys.stderr)
    sys.exit(code)


def mistake(sentence: str) -> str:
    """What click says of a command line, to be followed by a semicolon.

    A setting that was written as an option, ``--lr 1e-3``, is shown as it is written.
    """
    option = re.match(r"No such option: (--([\w.-]+))", sentence)
    if option and sys.argv[1] in ("train", "plan"):
        from mytnano.designs.settings import known_as

        if name := known_as(option[2].replace("-", "_")):
            given = " ".join(sys.argv).partition(f" {option[1]}")[2].lstrip(" =").split(" ")[0]
            return f"settings are NAME=VALUE after the recipe: {name}={given or 'VALUE'}"
    if guess := re.fullmatch(r"(.*)\. Did you mean (.*)\?", sentence.strip()):
        return f"{guess[1]}, did you mean {guess[2]}?"
    return sentence.rstrip(".?")


def hint() -> str:
    """The command whose help is wanted."""
    words = sys.argv[1:2]
    return " ".join(["mytnano", *(word for word in words if word in VERBS)])


def fail(sentence: str) -> int:
    """Say what is to be fixed; the exit code for it. Of torchrun's ranks one speaks for all."""
    if is_chief():
        print(f"mytnano: {sentence}", file=sys.stderr)
    return 2
