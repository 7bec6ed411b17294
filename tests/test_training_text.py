"""From a corpus to the streams of a run, and the config that follows from them."""

import pytest
from model_toys import WORDS, words

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.training import text as text_module
from mytnano.training.text import first_bytes, prepare, resolve


@pytest.fixture
def folder(tmp_path):
    text_module.forget()
    for number, document in enumerate(words(60, 900)):
        (tmp_path / f"{number:02}.txt").write_bytes(document + bytes([97 + number % 26]))
    return tmp_path


def config_of(folder, **data):
    return RunConfig().but(data={"corpus": str(folder), **data})


def test_first_bytes():
    documents = [b"abc", b"defg", b"hi"]
    assert first_bytes(documents, 0) == documents
    assert first_bytes(documents, 2) == [b"ab"]
    assert first_bytes(documents, 3) == [b"abc"]
    assert first_bytes(documents, 5) == [b"abc", b"de"]
    assert first_bytes(documents, 99) == documents


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe:300"])
def test_streams_spell_the_splits(folder, tmp_path, tokenizer):
    text = prepare(config_of(folder, tokenizer=tokenizer).data, tmp_path / "cache")
    for stream, documents in (
        (text.train, text.corpus.train),
        (text.validation, text.corpus.validation),
        (text.test, text.corpus.test),
    ):
        assert text.tokenizer.decode(stream.ids) == b"".join(documents)
        assert stream.vocab_size == text.tokenizer.vocab_size
        assert len(stream.document_starts) == len(documents)


def test_a_trained_vocabulary_knows_only_the_bytes_it_may(folder, tmp_path):
    specs = [config_of(folder, tokenizer="bpe:300", tokenizer_bytes=n).data for n in (0, 5000)]
    whole, part = (prepare(data, tmp_path / "cache").tokenizer for data in specs)
    assert whole.fingerprint != part.fingerprint
    chars = [config_of(folder, tokenizer="char", tokenizer_bytes=n).data for n in (0, 10)]
    one, other = (prepare(data, tmp_path / "cache").tokenizer for data in chars)
    assert one.fingerprint == other.fingerprint  # characters are not learned


def test_resolve_fills_in_what_the_text_tells(folder, tmp_path):
    config = resolve(config_of(folder, tokenizer="bpe:300"), tmp_path / "cache")
    text = prepare(config.data, tmp_path / "cache")
    assert config.data.fingerprint == text.corpus.fingerprint
    assert config.model.vocab_size == 300
    per_token = text.train.byte_count / len(text.train.ids)
    assert per_token > 1.2 and config.model.context == round(256 / per_token)
    assert resolve(config, tmp_path / "cache") == config


def test_a_window_named_in_tokens_keeps_them(folder, tmp_path):
    config = config_of(folder, tokenizer="bpe:300").but(model={"context": 100})
    kept = resolve(config, tmp_path / "cache", keep_context=True)
    text = prepare(kept.data, tmp_path / "cache")
    per_token = text.train.byte_count / len(text.train.ids)
    assert kept.model.context == 100 and kept.data.window_bytes == round(100 * per_token)
    assert resolve(config, tmp_path / "cache").data.window_bytes == config.data.window_bytes


def test_a_part_of_the_text_keeps_the_window(folder, tmp_path):
    whole, part = (
        resolve(config_of(folder, tokenizer="bpe:300", text_bytes=size), tmp_path / "cache")
        for size in (0, 2000)
    )
    assert part.model == whole.model and part.data.text_bytes == 2000
    assert prepare(part.data, tmp_path / "cache").train.byte_count == 2000


def test_a_config_shares_its_text_before_and_after_it_is_resolved(folder, tmp_path):
    config = config_of(folder, tokenizer="byte")
    before = prepare(config.data, tmp_path / "cache")
    resolved = resolve(config, tmp_path / "cache")
    assert prepare(resolved.data, tmp_path / "cache") is before
    other = resolved.data.but(window_bytes=99, tokenizer_bytes=9)
    assert prepare(other, tmp_path / "cache") is before


def test_a_text_that_changed_is_refused(folder, tmp_path):
    config = resolve(config_of(folder), tmp_path / "cache")
    (folder / "00.txt").write_bytes(WORDS[0] * 200)
    text_module.forget()
    with pytest.raises(UserError, match="has changed since this run was planned"):
        prepare(config.data, tmp_path / "cache")
