"""The text of a run, read, split, tokenised and cached, and the config that follows from it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from mytnano.config import DataConfig, RunConfig
from mytnano.errors import UserError
from mytnano.text.batches import Windows, bytes_per_window, tokens_per_window
from mytnano.text.corpus import Corpus, load_corpus
from mytnano.text.shard_corpus import check_tokenizer, open_shards
from mytnano.text.shards import PREFIX, ShardStream
from mytnano.text.stream import Stream, encode_split
from mytnano.text.tokenizers import build_tokenizer
from mytnano.text.vocabulary import Tokenizer, padded


@dataclass(frozen=True)
class Text:
    """One corpus in one vocabulary."""

    corpus: Corpus
    tokenizer: Tokenizer
    train: Stream | ShardStream
    validation: Stream
    test: Stream


@functools.lru_cache(maxsize=2)
def read_corpus(corpus: str, split: str, test_file: str | None) -> Corpus:
    """The split documents; read once a process."""
    return load_corpus(DataConfig(corpus=corpus, split=split, test_file=test_file))


def prepare(data: DataConfig, cache: Path) -> Text:
    """Read, split and tokenise what ``data`` names; ``cache`` keeps tokenizers and ids.

    Raises:
        UserError: the corpus cannot be used, or has changed since the run was planned.
    """
    if data.corpus.startswith(PREFIX):
        return _of_shards(data, cache)
    # By what the ids depend on alone: a config before and after it is resolved shares one text.
    text = _of_corpus(
        (data.corpus, data.split, data.test_file),
        data.tokenizer,
        data.tokenizer_bytes if data.tokenizer.startswith("bpe:") else 0,
        data.text_bytes,
        cache,
    )
    if data.fingerprint and data.fingerprint != text.corpus.fingerprint:
        raise UserError(
            f"the text of '{data.corpus}' has changed since this run was planned: "
            "start again in a new --out folder"
        )
    return text


@functools.lru_cache(maxsize=2)
def _of_shards(data: DataConfig, cache: Path) -> Text:
    if data.text_bytes:
        raise UserError("data.text_bytes takes a part of a text in memory: shards have none")
    corpus, tokenizer, *streams = open_shards(data, cache)
    check_tokenizer(data, tokenizer)
    return Text(corpus, tokenizer, *streams)


@functools.lru_cache(maxsize=2)
def _of_corpus(
    named: tuple[str, str, str | None], vocabulary: str, learned: int, part: int, cache: Path
) -> Text:
    """The text of a corpus, split and test file; ``learned`` and ``part`` are bytes, 0 for all."""
    corpus = read_corpus(*named)
    tokenizer = build_tokenizer(vocabulary, first_bytes(corpus.train, learned), cache)
    parts = (first_bytes(corpus.train, part), corpus.validation, corpus.test)
    return Text(corpus, tokenizer, *(encode_split(each, tokenizer, cache) for each in parts))


def forget() -> None:
    """Drop the texts that this process holds."""
    for held in (read_corpus, _of_shards, _of_corpus):
        held.cache_clear()


def first_bytes(documents: list[bytes], limit: int) -> list[bytes]:
    """The documents that lie in the first ``limit`` bytes, the last one cut; all of them for 0."""
    if not limit:
        return documents
    kept, left = [], limit
    for document in documents:
        if left <= 0:
            break
        kept.append(document[:left])
        left -= len(document)
    return kept


def resolve(config: RunConfig, cache: Path, keep_context: bool = False) -> RunConfig:
    """Fill in what only the text can tell: fingerprint, vocabulary size, window in tokens.

    A window's tokens are those of the whole training text, also for a run that reads a part of it.

    Args:
        keep_context: the design says how many tokens a window has, and the text how many bytes
            they make on average.
    """
    shards = config.data.corpus.startswith(PREFIX)
    text = prepare(config.data if shards else config.data.but(text_bytes=0), cache)
    context, window = config.model.context, config.data.window_bytes
    if keep_context:
        window = bytes_per_window(text.train, context)
    else:
        context = tokens_per_window(text.train, window)
    size = padded(text.tokenizer.vocab_size, config.data.vocab_multiple)
    between = 0 if config.data.cross_documents else text.tokenizer.eod_id
    return config.but(
        data={
            "fingerprint": text.corpus.fingerprint,
            "end_of_document": between,
            "window_bytes": window,
        },
        model={"vocab_size": size, "context": context},
    )


def windows_of(config: RunConfig, text: Text) -> Windows:
    """The training windows of a resolved run, a function of its seed and the step."""
    data, train = config.data, config.train
    return Windows(
        text.train,
        data.window_bytes,
        config.model.context,
        train.batch_windows,
        train.seed,
        train.salt,
    )
