"""``mytnano bench --tokenizers``: MB of text a second, for training and for encoding vocabularies.

A megabyte is 10^6 bytes of the embedded corpus. Each is done with an empty cache, as
a first run does it; the libraries use every core. Tasks alternate, and medians are reported.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mytnano.config import DataConfig
from mytnano.environment import environment
from mytnano.files import atomic_write_json
from mytnano.measure.turns import clocked, in_turns
from mytnano.text.bpe import BpeTokenizer
from mytnano.text.cl100k import Cl100kTokenizer
from mytnano.text.corpus import load_corpus
from mytnano.text.vocabulary import ByteTokenizer, CharTokenizer, Tokenizer

SIZES = (1024, 8192)
"""Vocabularies that are trained."""


def run_tokenizer_bench(rounds: int, out: Path, data: DataConfig | None = None) -> dict[str, Any]:
    """Time every task ``rounds`` times; print a table and write everything to ``out``.

    Raises:
        UserError: the corpus cannot be read.
    """
    console = Console()
    data = data or DataConfig()
    documents = list(load_corpus(data).train)
    size = sum(map(len, documents))
    timed = {name: clocked(task) for name, task in tasks(documents)}
    with console.status(f"{rounds} rounds"):
        seconds = in_turns(timed, rounds, warm=0)
    speeds = {name: [size / 1e6 / each for each in found] for name, found in seconds.items()}
    result = {
        "environment": environment("cpu", "fp32"),
        "corpus": data.corpus,
        "bytes": size,
        "rounds": rounds,
        "megabytes_per_second": {name: statistics.median(each) for name, each in speeds.items()},
    }
    atomic_write_json(out, result)
    shown = Table("", "MB/s", box=None, header_style="bold")
    for name, speed in result["megabytes_per_second"].items():
        shown.add_row(name, f"{speed:.1f}")
    console.print(shown)
    return result


def tasks(documents: list[bytes]) -> list[tuple[str, Callable[[], object]]]:
    """What is timed: training first, then encoding with what was trained (untimed) before."""
    trained = {f"bpe:{size}": _train(documents, size) for size in SIZES}
    encoders: dict[str, Tokenizer] = {
        "byte": ByteTokenizer(),
        "char": CharTokenizer.train(documents),
        **trained,
        "cl100k": Cl100kTokenizer(),
    }
    training = [(f"train bpe:{size}", _later(_train, documents, size)) for size in SIZES]
    encoding = [
        (f"encode {name}", _later(tokenizer.encode_documents, documents))
        for name, tokenizer in encoders.items()
    ]
    return [*training, *encoding]


def _train(documents: list[bytes], size: int) -> BpeTokenizer:
    with tempfile.TemporaryDirectory() as cold:
        return BpeTokenizer.train(documents, size, Path(cold))


def _later(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: function(*arguments)
