"""``mytnano sample`` and ``mytnano eval``: what is printed, and what is written where."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.inference.documents import (
    FEWEST,
    LEVEL,
    Evaluation,
    Texts,
    as_json,
    evaluate,
    read_texts,
)
from mytnano.inference.generate import Sampling, Speaker, generate, start
from mytnano.inference.load import LoadedRun, load_run
from mytnano.inference.pairs import LEVEL as PAIRS_LEVEL
from mytnano.inference.pairs import Share, advantages, grouping, read_pairs, shares
from mytnano.inference.unfinished import load_unfinished
from mytnano.model.cache import why_no_cache
from mytnano.terminal import plain, tell
from mytnano.text.readers import read_bytes
from mytnano.words import clean

EXTREMES = 5
"""Documents at each end of the table."""

FIRST_BYTES = 48
"""Of a document, in the table."""

ROWS = 64
"""Continuations that are computed at a time."""

WORDS = ("bpe:", "cl100k")
"""Vocabularies whose words have the space before them in their first token."""


@dataclass(frozen=True)
class SampleRequest:
    """What ``mytnano sample`` was asked for."""

    run: Path
    prompts: tuple[str, ...]
    batch: Path | None
    count: int
    tokens: int
    sampling: Sampling
    cached: bool
    device: str
    stops: tuple[str, ...] = ()


def sample(request: SampleRequest, say: Callable[[str], None]) -> None:
    """Print continuations to standard output, one alone as it comes; ``say`` hears of the rest.

    Raises:
        UserError: no such run or file of prompts.
    """
    if unfinished := load_unfinished(request.run, request.device):
        run, step = unfinished
        say(f"{run.name} is unfinished: this is what it writes after {step:,} steps")
    else:
        run = load_run(request.run, request.device)
    if run.caveat:
        say(run.caveat)
    prompts = [p.encode(errors="surrogateescape") for p in request.prompts]
    if request.batch is not None:
        prompts += read_bytes(request.batch).splitlines()
        if not prompts:
            raise UserError(f"'{request.batch}' is empty: write one prompt a line")
    if run.tokenizer.name.startswith(WORDS) and any(p.endswith(b" ") for p in prompts):
        say(
            "a prompt ends in a space, which this vocabulary has at the beginning of the next "
            "word: without it the text is likely to be better"
        )
    prompts = [p for p in prompts or [b""] for _ in range(request.count)]
    starts = [start(run.tokenizer, prompt) for prompt in prompts]
    cached = request.cached
    if cached and (reason := why_no_cache(run.config.model)):
        say(f"no cache is kept, as {reason}: every token costs a whole window")
        cached = False
    context = run.config.model.context
    if max(map(len, starts)) + request.tokens > context:
        say(
            f"the model was trained on windows of {context} tokens: when one is full, its oldest "
            "quarter is forgotten and the rest is read again"
        )
    out = sys.stdout
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="replace")  # a terminal that cannot show a character
    # A terminal would obey the control characters in it; a file gets the text as it is.
    shown = clean if out.isatty() else str
    if len(starts) == 1:
        out.write(shown(prompts[0].decode(errors="replace")))
        for text in stream(run, starts[0], request, cached):
            out.write(shown(text))
            out.flush()
        out.write("\n")
        return
    for begin in range(0, len(starts), ROWS):
        part = range(begin, min(begin + ROWS, len(starts)))
        texts = batch(run, starts, part, request, cached)
        for number, text in zip(part, texts, strict=True):
            whole = prompts[number].decode(errors="replace") + text
            out.write(f"--- {number + 1} of {len(starts)}\n{shown(whole)}\n")
        out.flush()


def stream(run: LoadedRun, ids: list[int], request: SampleRequest, cached: bool) -> Iterator[str]:
    """Yield the text of one continuation as it comes, up to the end of the document."""
    speaker, end = Speaker(run.tokenizer, request.stops), run.tokenizer.eod_id

    def ended(row: int, id: int) -> bool:
        return id == end or speaker.stopped

    size = run.tokenizer.vocab_size
    for step in generate(run.model, [ids], request.tokens, request.sampling, ended, cached, size):
        if text := speaker.say(step[0]):
            yield text
    yield speaker.end()


def batch(
    run: LoadedRun,
    starts: list[list[int]],
    part: Sequence[int],
    request: SampleRequest,
    cached: bool,
) -> list[str]:
    """The texts of those continuations of ``part``, each up to the end of its document."""
    speakers = [Speaker(run.tokenizer, request.stops) for _ in part]
    texts, end = [""] * len(part), run.tokenizer.eod_id

    def ended(row: int, id: int) -> bool:
        return id == end or speakers[row].stopped

    size, ids = run.tokenizer.vocab_size, [starts[number] for number in part]
    for step in generate(
        run.model, ids, request.tokens, request.sampling, ended, cached, size, part
    ):
        for row, id in step.items():
            texts[row] += speakers[row].say(id)
    return [text + speaker.end() for text, speaker in zip(texts, speakers, strict=True)]


def eval_text(
    path: Path,
    text: Path | None,
    corpus: str | None,
    split: str,
    json: Path | None,
    per_token: bool,
    device: str,
    console: Console,
) -> None:
    """Score a run on text; print totals and the extremes, and write everything to ``json``.

    Raises:
        UserError: no such run or text.
    """
    run = load_run(path, device)
    texts = read_texts(run, text, corpus, split)
    for note in texts.notes:
        tell(console, note)
    found = evaluate(run, texts.documents)
    value = as_json(run, texts, found, per_token) if json is not None else None
    with written_first(json, value, console, indent=None):
        show_scores(run, texts, found, console)


def show_scores(run: LoadedRun, texts: Texts, found: Evaluation, console: Console) -> None:
    """Print totals and the extremes."""
    score = found.score
    many = "" if len(texts.documents) == 1 else "s"
    tell(
        console,
        f"{run.name} on {texts.name}: {score.bits_per_byte:.4f} bits per byte"
        + interval_words(found)
        + f", loss {score.loss:.4f} nats per token, accuracy {score.accuracy:.1%}; "
        f"{len(texts.documents):,} document{many}, {score.bytes:,} bytes, {score.tokens:,} tokens",
    )
    if len(texts.documents) > 1:
        console.print(extremes(texts.documents, found))


@contextlib.contextmanager
def written_first(
    path: Path | None, value: Any, console: Console, indent: int | None = 2
) -> Iterator[None]:
    """Write a result before the block shows it: neither a broken pipe nor a full disk loses both.

    Raises:
        UserError: after the block, if the place cannot be written.
    """
    failure = None
    try:
        if path is not None:
            atomic_write_json(path, value, indent=indent)
    except UserError as error:
        failure = error
    yield
    if failure is not None:
        raise failure
    if path is not None:
        tell(console, f"written to {path}")


def interval_words(found: Evaluation) -> str:
    """The interval, or why there is none."""
    if found.interval:
        low, high = found.interval
        return f" [{low:.4f}, {high:.4f}] ({LEVEL:.0%}, bootstrap over documents)"
    if len(found.document_tokens) < FEWEST:
        return f" (no interval: a bootstrap needs {FEWEST} documents)"
    return " (no interval: the documents are all alike)"


def extremes(documents: list[bytes], found: Evaluation) -> Table:
    """The cheapest and the dearest documents; all if there are few."""
    order = np.argsort(found.document_bpb, kind="stable").tolist()
    few = len(order) <= 2 * EXTREMES
    shown = order if few else [*order[:EXTREMES], None, *order[-EXTREMES:]]
    grid = Table(title="documents, cheapest first", title_justify="left")
    for header in ("document", "bytes", "BPB", "loss", "accuracy"):
        grid.add_column(header, justify="right")
    grid.add_column("begins")
    for i in shown:
        if i is None:
            grid.add_row("...")
            continue
        nats, count = found.score.document_nats[i], found.document_tokens[i]
        begins = documents[i][:FIRST_BYTES].decode(errors="replace")
        grid.add_row(
            str(i + 1),
            f"{len(documents[i]):,}",
            f"{found.document_bpb[i]:.3f}",
            f"{nats / count:.3f}",
            f"{found.document_right[i] / count:.1%}",
            plain(" ".join(begins.split())),
        )
    return grid


def eval_pairs(
    path: Path, pairs: Path, by: str | None, json: Path | None, device: str, console: Console
) -> None:
    """Score a run on minimal pairs; print the share of each phenomenon.

    Raises:
        UserError: no such run or pairs.
    """
    read = read_pairs(pairs)
    field = grouping(read, by)
    run = load_run(path, device)
    if run.caveat:
        tell(console, run.caveat)
    advantage = advantages(run, read)
    found = shares(read, advantage, field)
    value = {
        "run": run.name,
        "config_hash": run.hash,
        "grouped_by": field,
        "interval_level": PAIRS_LEVEL,
        "shares": [{**asdict(row), "share": row.share} for row in found],
        "advantage_nats": advantage.tolist(),
    }
    with written_first(json, value, console):
        show_shares(run, found, field, console)


def show_shares(run: LoadedRun, found: Sequence[Share], field: str, console: Console) -> None:
    """Print the share of each phenomenon, the last row being that of all."""
    title = f"{run.name}: good sentence likelier, with {PAIRS_LEVEL:.0%} intervals (Wilson)"
    grid = Table(title=Text(title, style="table.title"), title_justify="left")
    grid.add_column(field)
    for header in ("pairs", "share", "low", "high"):
        grid.add_column(header, justify="right")
    for row in found:
        if row.name == "all":
            grid.add_section()
        numbers = (f"{x:.1%}" for x in (row.share, row.low, row.high))
        grid.add_row(plain(row.name), f"{row.pairs:,}", *numbers)
    console.print(grid)
    if ties := found[-1].ties:
        tell(console, f"{ties:,} of {found[-1].pairs:,} pairs were ties, counted half")
