"""Streams: every byte is where its offset says, and the cache is only ever a copy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mytnano.text import stream as stream_module
from mytnano.text.stream import encode_split
from mytnano.text.tokenizers import build_tokenizer

TRAIN = [b"the quick brown fox jumps over the lazy dog " * 40]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    cache = tmp_path_factory.mktemp("tokenizers")
    specs = ["char", "byte", "bpe:280", "cl100k-compact"]
    return [build_tokenizer(spec, TRAIN, cache) for spec in specs], cache


@settings(max_examples=25, deadline=None)
@given(documents=st.lists(st.binary(max_size=50), max_size=5))
def test_layout_and_offsets(tokenizers, documents):
    for tokenizer in tokenizers[0]:
        stream = encode_split(documents, tokenizer, tokenizers[1])
        text = b"".join(documents)
        assert stream.byte_count == len(text)
        assert stream.vocab_size == tokenizer.vocab_size
        assert stream.ids.dtype == np.int32 and stream.offsets.dtype == np.int64
        assert len(stream.offsets) == len(stream.ids)
        for id, offset in zip(stream.ids.tolist(), stream.offsets.tolist(), strict=True):
            token = tokenizer.token_bytes(id)
            assert text[offset : offset + len(token)] == token
        starts = stream.document_starts.tolist()
        assert len(starts) == len(documents)
        assert stream.ids[-1] == tokenizer.eod_id == stream.ids[0]
        ends = [*starts, len(stream.ids) - 1][1:]
        for document, start, end in zip(documents, starts, ends, strict=True):
            assert stream.ids[start] == stream.ids[end] == tokenizer.eod_id
            assert tokenizer.decode(stream.ids[start + 1 : end]) == document
        assert np.count_nonzero(stream.ids == tokenizer.eod_id) == len(documents) + 1
        lengths = [sum(map(len, documents[:k])) for k in range(len(documents))]
        assert stream.offsets[stream.document_starts].tolist() == lengths


def same(a, b):
    return (
        np.array_equal(a.ids, b.ids)
        and np.array_equal(a.offsets, b.offsets)
        and np.array_equal(a.document_starts, b.document_starts)
        and a.byte_count == b.byte_count
    )


@pytest.mark.parametrize("spec", ["bpe:280", "cl100k"])
def test_cache_is_read_and_rebuilt_when_damaged(tmp_path, monkeypatch, spec):
    tokenizer = build_tokenizer(spec, TRAIN, tmp_path / "tokenizer")
    documents = [b"the fox", b"", b"\xff dog"]
    first = encode_split(documents, tokenizer, tmp_path / "ids")
    (path,) = (tmp_path / "ids").iterdir()
    intact = path.read_bytes()
    for damaged in (intact[:-1], b"", bytes([*intact[:-1], intact[-1] ^ 1]), b"x" * len(intact)):
        path.write_bytes(damaged)
        assert same(encode_split(documents, tokenizer, tmp_path / "ids"), first)
        assert path.read_bytes() == intact

    def untouched(*_):
        raise AssertionError("encoded again")

    monkeypatch.setattr(stream_module, "_join", untouched)
    assert same(encode_split(documents, tokenizer, tmp_path / "ids"), first)
    for others in ([b"the fox", b"\xff dog"], [b"the fo", b"x", b"\xff dog"]):
        with pytest.raises(AssertionError, match="encoded again"):
            encode_split(others, tokenizer, tmp_path / "ids")


def test_two_tokenizers_do_not_share_a_cache(tmp_path):
    documents = [b"the quick fox"]
    for size in (270, 280):
        tokenizer = build_tokenizer(f"bpe:{size}", TRAIN, tmp_path)
        stream = encode_split(documents, tokenizer, tmp_path)
        assert tokenizer.decode(stream.ids) == documents[0]
    assert len(list(tmp_path.glob("ids-*"))) == 2


def test_fast_tokenizers_write_nothing(tmp_path):
    for spec in ("char", "byte"):
        tokenizer = build_tokenizer(spec, TRAIN, tmp_path / "cache")
        encode_split(TRAIN, tokenizer, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_tokenizer_that_loses_bytes_is_caught(tmp_path, monkeypatch):
    tokenizer = build_tokenizer("char", TRAIN, tmp_path)
    monkeypatch.setattr(tokenizer, "encode", lambda text: np.zeros(len(text) - 1, np.int32))
    with pytest.raises(RuntimeError, match="spells 2 bytes of 3"):
        encode_split([b"the"], tokenizer, tmp_path)
