"""`mytnano eval --corpus` never tests on what was trained, whatever the text is called."""

import shutil
from pathlib import Path

import pytest
from ladder_toys import write_text
from model_toys import words

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.inference import own_text
from mytnano.inference.documents import read_texts
from mytnano.inference.load import LoadedRun
from mytnano.text import streaming
from mytnano.text.corpus import load_corpus
from mytnano.text.shard_build import Request, build_shards


def run_on(corpus, **data):
    """A run of that text, of which only the configuration is needed."""
    config = RunConfig().but(data={"corpus": str(corpus), **data})
    fingerprint = load_corpus(config.data).fingerprint
    config = config.but(data={"fingerprint": fingerprint})
    return LoadedRun(Path("run"), config, {}, None, None, config.hash)


def scored(run, corpus, split="test"):
    texts = read_texts(run, None, corpus if corpus is None else str(corpus), split)
    return texts.documents, " ".join(texts.notes)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with my.txt in it, and without memory of other tests' text."""
    streaming.whole_corpus.cache_clear()
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "my.txt", 60_000)
    return tmp_path


@pytest.fixture
def tail(here):
    """A run of my.txt whose test text is its end."""
    return run_on("my.txt", split="tail:0.1")


def test_another_spelling_keeps_the_runs_own_split(here, tail):
    own, _ = scored(tail, None)
    assert b"".join(own) == (here / "my.txt").read_bytes()[-len(b"".join(own)) :]
    (here / "link.txt").symlink_to("my.txt")
    (here / "elsewhere").mkdir()
    shutil.copy(here / "my.txt", here / "elsewhere/copy.txt")
    for name in ("my.txt", "./my.txt", here / "my.txt", "link.txt", "elsewhere/copy.txt"):
        assert scored(tail, name)[0] == own, name
        assert scored(tail, name, "validation")[0] == scored(tail, None, "validation")[0]
    assert "whose own split is kept" in scored(tail, "./my.txt")[1]


def test_from_another_folder_it_is_known_by_what_it_holds(here, tail, monkeypatch):
    own, _ = scored(tail, None)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert scored(tail, "../my.txt")[0] == own


def test_a_text_that_was_changed_is_refused_by_any_name(here, tail):
    (here / "my.txt").write_bytes((here / "my.txt").read_bytes() + b"More.\n" * 50)
    with pytest.raises(UserError, match="has changed"):
        scored(tail, "./my.txt")


def test_of_another_text_it_is_said_how_much_was_trained_on(here, tail):
    (here / "more.txt").write_bytes((here / "my.txt").read_bytes() + b"Another end.\n" * 300)
    _, said = scored(tail, "more.txt")
    share = float(said.partition("% of the 64-byte passages of this text")[0].split()[-1])
    assert 50 < share <= 100
    (here / "new.txt").write_bytes(b"\n\n".join(words(60, 700, seed=3)))
    assert "0.00% of the 64-byte passages of this text" in scored(tail, "new.txt")[1]
    whole = read_texts(tail, Path("my.txt"), None, "test")  # --text: as it is, trained on or not
    assert "% of the 64-byte passages of this text" in whole.notes[-1]
    assert "0.00%" not in whole.notes[-1]
    (here / "my.txt").unlink()
    assert "It cannot be determined whether this run was trained on" in scored(tail, "new.txt")[1]
    hub = tail.config.but(data={"corpus": "hf:name/of-it"})
    said = scored(LoadedRun(Path("run"), hub, {}, None, None, hub.hash), "new.txt")[1]
    assert "'hf:name/of-it', which it was trained on, is not on this machine" in said


@pytest.mark.parametrize("split", ["documents", "tail:0.1"])
def test_shards_and_what_they_were_made_of(here, split, monkeypatch):
    build_shards(Request("my.txt", "byte", here / "s", split, shard_bytes=9000), 0)
    run = run_on("shards:s", tokenizer="byte")
    own, _ = scored(run, None)
    for name in ("my.txt", "shards:./s", f"shards:{here / 's'}"):
        assert list(scored(run, name)[0]) == list(own), name
    (here / "more.txt").write_bytes((here / "my.txt").read_bytes()[:50_000])
    assert "% of the 64-byte passages of this text" in scored(run, "more.txt")[1]
    monkeypatch.setattr(own_text, "MOST_BYTES", 100)
    assert "is too large to be compared" in scored(run, "more.txt")[1]
