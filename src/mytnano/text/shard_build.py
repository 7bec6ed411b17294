"""``mytnano shard``: a corpus into shards, by several processes, continued after any interruption.

One process reads and splits the text and cuts it into groups of documents; the others turn each
group into a shard. The groups depend on the text and the options alone. A finished shard has a note
beside it (``train-00000.json``, written last), so the same command reads the text again, which is
quick, and makes only the shards without one.
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mytnano.children import be_deaf_to_ctrl_c, ctrl_c_held, leave_with_parent
from mytnano.errors import UserError
from mytnano.files import atomic_write_bytes, atomic_write_json, json_text, sha256_bytes
from mytnano.text.cache import digest
from mytnano.text.readers import existing_path
from mytnano.text.shards import (
    BLOCK,
    MANIFEST,
    SPLITS,
    TOKENIZER,
    Manifest,
    Shard,
    damaged_file,
    read_manifest,
    shard_tokenizer,
    verify,
)
from mytnano.text.streaming import (
    Labelled,
    first_training_bytes,
    fits,
    groups,
    labelled_documents,
    whole_corpus,
)
from mytnano.text.tokenizers import build_tokenizer, load_tokenizer
from mytnano.text.vocabulary import DESCRIPTION, Tokenizer

PLAN = "plan.json"
CACHE = "cache"
TOKENIZER_BYTES = 64 << 20
"""Text from which a tokenizer is trained where the whole corpus is not held in memory."""

LARGEST_TEXT = 1 << 31
"""Bytes of text of one shard, so that its index fits into 32 bits."""


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        corpus: a file, a folder, a .jsonl, a .parquet, ``hf:NAME`` or ``sotu``.
        tokenizer: ``char``, ``byte``, ``bpe:SIZE``, ``cl100k``, ``cl100k-compact``, or a folder
            with a saved one.
        out: the shard folder.
        split: as in ``DataConfig``.
        shard_bytes: text of one shard.
        held_out: share of the validation and of the test text, where the text is streamed.
        limit: bytes of text to stop after, where it is streamed; 0 takes all.
        tokenizer_bytes: training text that a trained tokenizer learns from; 0 is all that is held.
    """

    corpus: str
    tokenizer: str
    out: Path
    split: str = "documents"
    shard_bytes: int = 64 << 20
    held_out: float = 0.005
    limit: int = 0
    tokenizer_bytes: int = 0

    @property
    def plan(self) -> dict:
        """All that decides what the shards hold, but the text itself."""
        return {name: value for name, value in asdict(self).items() if name != "out"}


@dataclass(frozen=True)
class Progress:
    """After a shard: whether it was there already, and bytes of text and tokens so far."""

    shard: Shard
    reused: bool
    bytes: int
    tokens: int


def build_shards(
    request: Request,
    workers: int,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Manifest:
    """Make the shards that are not there yet, and the manifest; the same call continues.

    Args:
        workers: processes that tokenise beside this one; 0 does it here.

    Raises:
        UserError: the corpus or the tokenizer cannot be used, the folder holds other shards, or the
            disk is full.
    """
    out = request.out
    _settle(request)
    kept = _texts_of(out)
    tokenizer = _tokenizer(request)
    shards: dict[str, list[Shard]] = {split: [] for split in SPLITS}
    notes: list[str] = []  # of the records that are streamed
    with _Makers(out, tokenizer, workers) as makers:
        done_bytes = done_tokens = 0
        text = _text(request, notes)
        for split, shard, reused in makers.make(text, request.shard_bytes, kept):
            shards[split].append(shard)
            done_bytes, done_tokens = done_bytes + shard.bytes, done_tokens + shard.tokens
            on_progress(Progress(shard, reused, done_bytes, done_tokens))
    _check_splits(shards, request)
    manifest = Manifest(
        corpus=_name(request.corpus),
        notes=[*_notes(request), *notes],
        split=request.split,
        tokenizer=tokenizer.name,
        tokenizer_sha256=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        shards={split: sorted(found, key=lambda s: s.name) for split, found in shards.items()},
    )
    manifest.write(out)
    return manifest


def _text(request: Request, notes: list[str] | None = None) -> Labelled:
    given = (request.corpus, request.split, request.held_out, request.limit)
    return labelled_documents(*given, notes)


def _name(corpus: str) -> str:
    return corpus if corpus.startswith("hf:") or corpus == "sotu" else Path(corpus).resolve().name


def _notes(request: Request) -> list[str]:
    if fits(request.corpus):
        return whole_corpus(request.corpus, request.split).notes
    return [
        f"Of the documents {100 * request.held_out:g} % are the test text and as many the "
        "validation text, by a hash of each one's content."
    ]


def _settle(request: Request) -> None:
    """Write down what the folder is for, or find that it is for this.

    The plan is written before anything else. So what stands without one of ours is not ours, and a
    tokenizer without shards is that of a command that was stopped: with other options it goes.
    """
    out, path = request.out, request.out / PLAN
    begun = any(out.glob("*.bin")) or (out / MANIFEST).exists()
    if not path.exists():
        if begun or (out / TOKENIZER).exists():
            raise UserError(
                f"'{out}' holds .bin files, a manifest or a tokenizer of something else: choose "
                "another --out folder"
            )
        atomic_write_json(path, request.plan)
        return
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        found = None
    if found == json.loads(json_text(request.plan)):
        return
    if begun:
        raise UserError(
            f"'{out}' holds shards that were made with other options, which are in its "
            f"{PLAN}: give those again, or choose another --out folder"
        )
    if not isinstance(found, dict) or found.keys() != request.plan.keys():
        raise UserError(f"'{out}' holds a {PLAN} of something else: choose another --out folder")
    _remove(out / TOKENIZER)
    atomic_write_json(path, request.plan)


def _remove(folder: Path) -> None:
    """Delete a folder, its description first; UserError where that is not possible."""
    try:
        (folder / DESCRIPTION).unlink(missing_ok=True)  # without it the rest is not a tokenizer
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise UserError(f"cannot delete '{folder}': {error.strerror}; delete it yourself") from None


def _texts_of(out: Path) -> dict[str, str]:
    """Shard -> digest of its text, of a finished folder, whose text may not change."""
    if not (out / MANIFEST).exists():
        return {}
    manifest = read_manifest(out)
    return {shard.name: shard.text_sha256 for split in SPLITS for shard in manifest.shards[split]}


def _check_splits(shards: dict[str, list[Shard]], request: Request) -> None:
    for split, found in shards.items():
        if not found:
            raise UserError(
                f"no document of '{request.corpus}' fell to the {split} text: give more text, or a "
                f"larger --held-out than {request.held_out:g}"
            )


def _tokenizer(request: Request) -> Tokenizer:
    """The folder's tokenizer, made at the first call."""
    folder = request.out / TOKENIZER
    if (folder / DESCRIPTION).exists():
        return load_tokenizer(folder)
    saved = existing_path(request.tokenizer)
    if saved and (saved / DESCRIPTION).is_file():
        tokenizer = load_tokenizer(saved)
    else:
        everything = 0 if fits(request.corpus) else TOKENIZER_BYTES
        limit = request.tokenizer_bytes if request.tokenizer.startswith("bpe:") else 0
        text = first_training_bytes(_text(request), limit or everything)
        tokenizer = build_tokenizer(request.tokenizer, text, request.out / CACHE)
    tokenizer.save(folder)
    return tokenizer


class _Makers:
    """The processes that make shards, a few groups ahead of what they have finished."""

    def __init__(self, out: Path, tokenizer: Tokenizer, workers: int) -> None:
        self._out, self._tokenizer, self._workers = out, tokenizer, workers
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        self._children: list[multiprocessing.process.BaseProcess] = []

    def __enter__(self) -> _Makers:
        if self._workers:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self._workers,
                multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(self._out,),
            )
            before = multiprocessing.active_children()
            with ctrl_c_held():
                self._pool.submit(int)  # starts all of them
            self._children = [c for c in multiprocessing.active_children() if c not in before]
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._pool is not None:
            for child in self._children if kind else ():  # a shard may take minutes
                child.kill()
            self._pool.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                "a process that made shards was killed, perhaps for memory: run the same command "
                "again with a smaller --shard-mb or fewer --workers; finished shards stay"
            ) from None

    def make(
        self, documents: Labelled, size: int, kept: dict[str, str]
    ) -> Iterator[tuple[str, Shard, bool]]:
        """(split, shard, whether it was there) of each group, as they are finished.

        Args:
            kept: of each shard of a finished folder, the digest of its text.

        Raises:
            UserError: the text is not that of the finished folder; its files are as they were.
            BrokenProcessPool: a process was killed; leaving the block says so.
        """
        counts = dict.fromkeys(SPLITS, 0)
        running: dict[concurrent.futures.Future, str] = {}
        for split, group, last in groups(documents, size):
            name = f"{split}-{counts[split]:05}"
            counts[split] += 1
            text = digest(group)
            if kept and kept.get(name) != text:
                raise UserError(
                    f"the text has changed since the shards in '{self._out}' were made: restore "
                    "it, or choose another --out folder"
                )
            if found := _finished(self._out, name, self._tokenizer, text, last):
                yield split, found, True
            elif self._pool is None:
                yield split, make_shard(self._out, name, self._tokenizer, group, text, last), False
            else:
                running[self._pool.submit(_work, self._out, name, group, text, last)] = split
                if len(running) > self._workers:  # text waits in memory: one group ahead is enough
                    yield from _take(running, concurrent.futures.FIRST_COMPLETED)
        yield from _take(running, concurrent.futures.ALL_COMPLETED)


def _take(running: dict, when: str) -> Iterator[tuple[str, Shard, bool]]:
    done, _ = concurrent.futures.wait(running, return_when=when)
    for future in done:
        yield running.pop(future), future.result(), False


_worker_tokenizer: Tokenizer | None = None


def _start_worker(out: Path) -> None:
    leave_with_parent()
    be_deaf_to_ctrl_c()
    global _worker_tokenizer
    _worker_tokenizer = load_tokenizer(out / TOKENIZER)


def _work(out: Path, name: str, documents: list[bytes], text: str, last: bool) -> Shard:
    assert _worker_tokenizer is not None
    return make_shard(out, name, _worker_tokenizer, documents, text, last)


def make_shard(
    out: Path, name: str, tokenizer: Tokenizer, documents: list[bytes], text: str, last: bool
) -> Shard:
    """Write one shard: ids, index, and at last its note.

    Args:
        text: digest of the documents.
        last: of its split, and so the one that ends with an end-of-document.

    Raises:
        UserError: the disk is full, or a document is too large for one shard.
    """
    size = sum(map(len, documents))
    if size > LARGEST_TEXT:
        raise UserError(
            f"{name} would hold {size:,} bytes of text, more than {LARGEST_TEXT:,}: give a smaller "
            "--shard-mb, or cut the largest document"
        )
    eod = np.array([tokenizer.eod_id], np.int32)
    parts = [part for ids in tokenizer.encode_documents(documents) for part in (eod, ids)]
    ids = np.concatenate([*parts, eod] if last else parts)  # (n,)
    lengths = tokenizer.byte_lengths[ids]  # (n,)
    if lengths.sum() != size:
        raise RuntimeError(f"{tokenizer.name} spells {lengths.sum()} bytes of {size}")
    starts = np.cumsum(lengths) - lengths  # (n,)
    documents_at = np.flatnonzero(ids == tokenizer.eod_id)[: len(documents)]  # (k,)
    index = np.concatenate((starts[::BLOCK], documents_at)).astype("<u4")
    manifest = _empty_manifest(tokenizer)
    files = {"bin": ids.astype(manifest.dtype).tobytes(), "idx": index.tobytes()}
    for kind, content in files.items():
        atomic_write_bytes(out / f"{name}.{kind}", content)
    shard = Shard(
        name, len(ids), len(documents), size, *map(sha256_bytes, files.values()), text_sha256=text
    )
    note = {"tokenizer": tokenizer.fingerprint, "last": last, "shard": asdict(shard)}
    atomic_write_json(out / f"{name}.json", note)
    return shard


def _finished(out: Path, name: str, tokenizer: Tokenizer, text: str, last: bool) -> Shard | None:
    """The shard of that name if it is there, whole, and of this text in these tokens."""
    try:
        note = json.loads((out / f"{name}.json").read_bytes())
        shard = Shard(**note["shard"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    same = (note.get("tokenizer"), note.get("last"), shard.text_sha256)
    if same != (tokenizer.fingerprint, last, text):
        return None
    return None if damaged_file(out, shard, _empty_manifest(tokenizer)) else shard


def _empty_manifest(tokenizer: Tokenizer) -> Manifest:
    none: dict[str, list[Shard]] = {split: [] for split in SPLITS}
    return Manifest("", [], "", tokenizer.name, tokenizer.fingerprint, tokenizer.vocab_size, none)


def verify_shards(out: Path) -> Manifest:
    """Read every file of a shard folder again; UserError with the first that is not as written."""
    manifest = read_manifest(out)
    shard_tokenizer(out, manifest)
    verify(out, manifest)
    return manifest
