"""Shards: the same ids as in memory, whole or refused, made again only where they must be."""

import io
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from model_toys import HEALTHY, toy_run, words
from rich.console import Console

from mytnano.cli.shards import make
from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.text import batches, shard_build, shards, streaming
from mytnano.text.batches import Windows
from mytnano.text.readers import read_source
from mytnano.text.shard_build import Request, build_shards, verify_shards
from mytnano.text.shard_corpus import shard_folder
from mytnano.text.shards import ShardStream, read_manifest, shard_tokenizer
from mytnano.text.streaming import chosen_split, groups, stream_documents
from mytnano.training import text as text_module
from mytnano.training.loop import train
from mytnano.training.text import prepare


@pytest.fixture
def corpus(tmp_path):
    text_module.forget()
    streaming.whole_corpus.cache_clear()
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number, document in enumerate(words(60, 900)):
        cut = document[: 900 - 7 * number]
        (folder / f"{number:02}.txt").write_bytes(cut + bytes([97 + number % 26]))
    return folder


def request(corpus, out, tokenizer="bpe:300", **more):
    return Request(str(corpus), tokenizer, Path(out), **{"shard_bytes": 5000, **more})


def made(corpus, out, workers=0, **more):
    """(manifest, names of the shards that were not there before)."""
    fresh = []
    manifest = build_shards(
        request(corpus, out, **more),
        workers,
        lambda progress: None if progress.reused else fresh.append(progress.shard.name),
    )
    return manifest, fresh


def streams(corpus, out, cache, tokenizer="bpe:300"):
    """The training stream from the shards, and from the corpus itself."""
    data = RunConfig().but(data={"tokenizer": tokenizer}).data
    sharded = prepare(data.but(corpus=f"shards:{out}"), cache)
    return sharded, prepare(data.but(corpus=str(corpus)), cache)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_process_outlives_a_killed_command(corpus, tmp_path):
    code = (
        "from mytnano.text import shard_build as s; from pathlib import Path; import time\n"
        f"r = s.Request({str(corpus)!r}, 'byte', Path({str(tmp_path / 's')!r}), shard_bytes=5000)\n"
        "if __name__ == '__main__':\n"
        "    s.build_shards(r, 2, lambda p: (print('made', flush=True), time.sleep(99)))\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"made\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        workers = [each for each in children if "spawn_main" in " ".join(each.cmdline())]
        parent.kill()
    assert len(workers) == 2
    assert psutil.wait_procs(workers, timeout=20)[1] == []


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe:300"])
def test_shards_of_a_text_are_the_text(corpus, tmp_path, tokenizer):
    manifest, _ = made(corpus, tmp_path / "s", tokenizer=tokenizer)
    assert len(manifest.shards["train"]) >= 4
    disk, memory = streams(corpus, tmp_path / "s", tmp_path / "cache", tokenizer)
    assert disk.tokenizer.fingerprint == memory.tokenizer.fingerprint
    for split in ("train", "validation", "test"):
        one, other = getattr(disk, split), getattr(memory, split)
        assert (one.byte_count, one.vocab_size) == (other.byte_count, other.vocab_size)
        for name in ("ids", "offsets", "document_starts"):
            assert np.array_equal(np.asarray(getattr(one, name)), getattr(other, name))
        assert list(getattr(disk.corpus, split)) == list(getattr(memory.corpus, split))
    assert isinstance(disk.train, ShardStream) and not disk.train.in_memory


def test_places_in_a_sharded_stream(corpus, tmp_path):
    made(corpus, tmp_path / "s")
    disk, memory = (text.train for text in streams(corpus, tmp_path / "s", tmp_path / "cache"))
    bytes_ = np.arange(memory.byte_count + 1)
    assert np.array_equal(disk.token_at(bytes_), memory.token_at(bytes_))
    tokens = np.arange(len(memory.ids) + 1)
    assert np.array_equal(disk.byte_at(tokens), memory.byte_at(tokens))
    first = np.arange(0, len(memory.ids) - 700, 97)
    assert np.array_equal(disk.spans(first, 700), memory.spans(first, 700))
    chosen = np.array([[0, 5], [len(memory.ids) - 1, 3]])
    assert np.array_equal(disk.ids[chosen], memory.ids[chosen]) and disk.ids[-1] == memory.ids[-1]
    with pytest.raises(IndexError):
        disk.ids[len(memory.ids)]


def test_runs_from_shards_see_the_same_batches(corpus, tmp_path, monkeypatch):
    made(corpus, tmp_path / "s")
    disk, memory = (text.train for text in streams(corpus, tmp_path / "s", tmp_path / "cache"))
    one, other = (Windows(stream, 64, 20, 6, seed=3) for stream in (disk, memory))
    for step in (0, 7, 200):
        for a, b in zip(one.batch(step), other.batch(step), strict=True):
            assert np.array_equal(a, b)
    assert one.tokens_and_bytes(150) == other.tokens_and_bytes(150)

    monkeypatch.setattr(batches, "LARGEST_SHUFFLE", 10)  # a computed order from here on
    keyed = Windows(disk, 64, 20, 1, seed=3)
    assert not np.array_equal(keyed.starts(0), one.starts(0)[:1])
    epoch = np.sort([int(keyed.starts(step)[0]) for step in range(keyed.per_epoch)])
    assert len(set(epoch[:-2].tolist())) == keyed.per_epoch - 2  # every window once
    in_memory = Windows(memory, 64, 20, 6, seed=3)
    assert np.array_equal(in_memory.starts(9), other.starts(9))  # whose order never changes


def test_a_run_from_shards_is_the_run_from_the_text(corpus, tmp_path):
    made(corpus, tmp_path / "s")
    losses = []
    for text in streams(corpus, tmp_path / "s", tmp_path / "cache"):
        data = {"tokenizer": "bpe:300", "fingerprint": "", "corpus": "either"}
        config = toy_run(text, 4, 4, 64, model=HEALTHY, data=data)
        result = train(config, text, tmp_path / str(len(losses)))
        points = (tmp_path / str(len(losses)) / "metrics.jsonl").read_text().splitlines()
        curve = [json.loads(point)["train_loss"] for point in points]
        losses.append((curve, result["test_bpb"], result["validation_bpb"], result["train_bytes"]))
    assert losses[0] == losses[1] and len(losses[0][0]) == 4


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_the_shares_of_any_number_of_ranks_are_the_batch(corpus, tmp_path, ranks):
    made(corpus, tmp_path / "s")
    stream = streams(corpus, tmp_path / "s", tmp_path / "cache")[0].train
    windows = Windows(stream, 64, 20, 6, seed=3)
    for step in (0, 11):
        shares = [windows.batch(step, rank, ranks) for rank in range(ranks)]
        for whole, parts in zip(windows.batch(step), zip(*shares, strict=True), strict=True):
            assert np.array_equal(whole, np.concatenate(parts))


def test_ranks_that_do_not_divide_the_batch(corpus, tmp_path):
    made(corpus, tmp_path / "s")
    stream = streams(corpus, tmp_path / "s", tmp_path / "cache")[0].train
    with pytest.raises(UserError, match="4 processes cannot share the 6 windows"):
        Windows(stream, 64, 20, 6, seed=3).batch(0, 1, 4)


def test_a_resumed_count_goes_on_from_what_is_known(corpus, tmp_path):
    made(corpus, tmp_path / "s")
    stream = streams(corpus, tmp_path / "s", tmp_path / "cache")[0].train
    one, other = (Windows(stream, 64, 20, 6, seed=3) for _ in range(2))
    _, read = one.tokens_and_bytes(40)
    other.remember(40, read)
    assert other.tokens_and_bytes(60) == one.tokens_and_bytes(60)
    assert other.tokens_and_bytes(7) == Windows(stream, 64, 20, 6, seed=3).tokens_and_bytes(7)


def test_processes_make_the_same_shards_and_only_what_is_missing(corpus, tmp_path):
    alone, fresh = made(corpus, tmp_path / "one")
    together, _ = made(corpus, tmp_path / "two", workers=1)
    assert alone == together and sorted(fresh) == sorted(p.stem for p in tmp_path.glob("one/*.bin"))
    assert made(corpus, tmp_path / "one")[1] == []

    for name in ("train-00001.bin", "train-00002.json", "manifest.json"):
        (tmp_path / "one" / name).unlink()
    again, fresh = made(corpus, tmp_path / "one")
    assert again == alone and fresh == ["train-00001", "train-00002"]


def test_a_killed_process_is_a_sentence_and_what_is_finished_stays(corpus, tmp_path):
    out = tmp_path / "s"

    def kill(_):
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(UserError, match="killed, perhaps for memory: run the same command again"):
        build_shards(request(corpus, out, "byte"), 1, kill)
    there = {path.stem for path in out.glob("*.json")} - {"plan"}
    manifest, fresh = made(corpus, out, tokenizer="byte")
    assert there and fresh and not there & set(fresh)
    assert manifest == made(corpus, tmp_path / "other", tokenizer="byte")[0]


def test_a_damaged_shard_is_refused_and_then_mended(corpus, tmp_path):
    out = tmp_path / "s"
    manifest, _ = made(corpus, out)
    data = RunConfig().but(data={"tokenizer": "bpe:300", "corpus": f"shards:{out}"}).data
    prepare(data, tmp_path / "cache")
    path = out / "train-00001.bin"
    content = path.read_bytes()
    for wrong in (content[:-2], content[:50] + b"\1" + content[51:]):
        path.write_bytes(wrong)
        text_module.forget()
        with pytest.raises(UserError, match=r"train-00001.bin' (has|does not match)"):
            prepare(data, tmp_path / "cache")
        with pytest.raises(UserError, match="train-00001"):
            verify_shards(out)
    assert made(corpus, out) == (manifest, ["train-00001"]) and path.read_bytes() == content
    assert verify_shards(out) == manifest
    text_module.forget()
    prepare(data, tmp_path / "cache")


def test_what_was_verified_is_not_read_again(corpus, tmp_path, monkeypatch):
    out = tmp_path / "s"
    manifest, _ = made(corpus, out)
    shards.verify(out, manifest, tmp_path / "cache")
    monkeypatch.setattr(shards, "sha256_file", lambda path: pytest.fail("read again"))
    shards.verify(out, manifest, tmp_path / "cache")


def test_a_manifest_that_was_changed_is_refused(corpus, tmp_path):
    out = tmp_path / "s"
    made(corpus, out)
    content = json.loads((out / "manifest.json").read_text())
    content["shards"]["train"][0]["bytes"] += 1
    (out / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="was changed"):
        read_manifest(out)
    with pytest.raises(UserError, match="'shards:' names no folder"):
        shard_folder("shards:")
    (out / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(out)
    with pytest.raises(UserError, match="no finished shards"):
        read_manifest(tmp_path / "none")


def test_refusals_of_a_run(corpus, tmp_path):
    out = tmp_path / "s"
    made(corpus, out)
    data = RunConfig().but(data={"tokenizer": "bpe:300", "corpus": f"shards:{out}"}).data
    for changed, sentence in (
        ({"tokenizer": "byte"}, "is in bpe:300, and this design wants byte"),
        ({"split": "tail:0.1"}, "is split already"),
        ({"fingerprint": "0" * 64}, "has changed since this run was planned"),
    ):
        with pytest.raises(UserError, match=sentence):
            prepare(data.but(**changed), tmp_path / "cache")
    from mytnano.text.bpe import BpeTokenizer

    BpeTokenizer.train([b"other text " * 900 + bytes(range(256))], 260, tmp_path / "c").save(
        out / "tokenizer"
    )
    with pytest.raises(UserError, match="not the one that made its shards"):
        prepare(data, tmp_path / "cache")


def test_refusals_of_the_command(corpus, tmp_path):
    out = tmp_path / "s"
    made(corpus, out)
    with pytest.raises(UserError, match="other options"):
        made(corpus, out, tokenizer="bpe:301")
    (corpus / "00.txt").write_text("something else " * 300)
    streaming.whole_corpus.cache_clear()
    before = {path.name: path.read_bytes() for path in out.glob("train*")}
    with pytest.raises(UserError, match="has changed since the shards"):
        made(corpus, out)
    assert {path.name: path.read_bytes() for path in out.glob("train*")} == before
    with pytest.raises(UserError, match="neither a known corpus"):
        made(tmp_path / "nowhere", tmp_path / "t")
    with pytest.raises(UserError, match="unknown tokenizer"):
        made(corpus, tmp_path / "u", tokenizer="bpe")
    with pytest.raises(UserError, match="unknown tokenizer"):
        made(corpus, tmp_path / "long", tokenizer="a" * 300)
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "mine.bin").write_bytes(b"1")
    with pytest.raises(UserError, match="something else"):
        made(corpus, tmp_path / "v")


def interrupted(corpus, out, monkeypatch, **more):
    """The folder of a command that was stopped between its tokenizer and its first shard."""

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shard_build, "make_shard", stopped)
        with pytest.raises(KeyboardInterrupt):
            made(corpus, out, **more)
    assert (out / "tokenizer").is_dir() and not list(out.glob("*.bin"))


def test_other_options_before_the_first_shard_begin_anew(corpus, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    for number, document in enumerate(words(40, 700, seed=7)):
        (other / f"{number:02}.txt").write_bytes(document + b"~" + bytes([97 + number % 26]))
    for number, (text, tokenizer) in enumerate(((corpus, "byte"), (other, "bpe:300"))):
        out, fresh = tmp_path / f"s{number}", tmp_path / f"fresh{number}"
        interrupted(corpus, out, monkeypatch)
        streaming.whole_corpus.cache_clear()
        manifest, _ = made(text, out, tokenizer=tokenizer)
        assert manifest == made(text, fresh, tokenizer=tokenizer)[0]
        assert manifest.tokenizer == tokenizer


def test_a_tokenizer_of_the_same_options_is_kept(corpus, tmp_path, monkeypatch):
    interrupted(corpus, tmp_path / "s", monkeypatch)
    monkeypatch.setattr(shard_build, "build_tokenizer", lambda *_: pytest.fail("made again"))
    made(corpus, tmp_path / "s")


def test_what_another_command_left_is_not_touched(corpus, tmp_path, monkeypatch):
    run = tmp_path / "run"  # a run folder has a tokenizer too, and the lab's a plan.json
    interrupted(corpus, run, monkeypatch, tokenizer="byte")
    (run / "plan.json").unlink()
    with pytest.raises(UserError, match="something else"):
        made(corpus, run)
    assert (run / "tokenizer" / "mytnano_tokenizer.json").exists()
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "plan.json").write_text('{"hash": "0", "arms": {}}')
    with pytest.raises(UserError, match="something else"):
        made(corpus, lab)
    assert json.loads((lab / "plan.json").read_text()) == {"hash": "0", "arms": {}}


def test_the_command_says_how_to_train_on_them(corpus, tmp_path):
    printed = io.StringIO()
    out = tmp_path / "s"
    make(request(corpus, out, "byte"), 0, Console(file=printed, width=60))
    last = printed.getvalue().splitlines()[-1]
    assert last == f"train on it with --corpus shards:{out}, in the vocabulary byte"


def test_a_saved_tokenizer_is_used(corpus, tmp_path):
    made(corpus, tmp_path / "one")
    made(corpus, tmp_path / "two", tokenizer=str(tmp_path / "one" / "tokenizer"), shard_bytes=9000)
    one, two = (
        shard_tokenizer(tmp_path / name, read_manifest(tmp_path / name)) for name in ("one", "two")
    )
    assert one.fingerprint == two.fingerprint


@pytest.fixture
def streamed(monkeypatch):
    """Every corpus is too large to be held."""
    monkeypatch.setattr(streaming, "IN_MEMORY", 0)


def test_a_large_corpus_is_streamed_and_split_by_content(corpus, tmp_path, streamed):
    manifest, _ = made(corpus, tmp_path / "s", held_out=0.2)
    tokenizer = shard_tokenizer(tmp_path / "s", manifest)
    documents = {p.read_bytes() for p in corpus.iterdir()}
    seen = set()
    for split in ("train", "validation", "test"):
        stream = ShardStream(tmp_path / "s", manifest, split, tokenizer.byte_lengths)
        ids = np.asarray(stream.ids)
        ends = np.append(np.asarray(stream.document_starts), len(ids) - 1)
        for start, end in itertools.pairwise(ends):
            document = tokenizer.decode(ids[start + 1 : end])
            assert chosen_split(document, 0.2) == split
            seen.add(document)
    assert seen == documents
    with pytest.raises(UserError, match="too large to be split by position"):
        made(corpus, tmp_path / "t", split="tail:0.1")
    with pytest.raises(UserError, match=r"no document of .* fell to the"):
        made(corpus, tmp_path / "u", held_out=1e-9)
    limited, _ = made(corpus, tmp_path / "v", held_out=0.2, limit=20_000)
    assert 20_000 <= sum(limited.total(s, "bytes") for s in limited.shards) < 21_000


def test_streamed_documents_are_those_that_are_read(corpus, tmp_path, monkeypatch):
    lines = [json.dumps({"text": text.decode()}) for text in words(9, 200, seed=4)]
    (corpus / "more.jsonl").write_text("\n".join(lines) + "\n\n")
    (corpus / "binary.dat").write_bytes(b"\0\1\2")
    (corpus / "empty.txt").write_bytes(b"")
    assert list(stream_documents(str(corpus))) == read_source(str(corpus)).documents
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"text": [text.decode() for text in words(9, 100, seed=5)]})
    parquet.write_table(table, corpus / "rows.parquet", row_group_size=2)
    assert list(stream_documents(str(corpus))) == read_source(str(corpus)).documents
    monkeypatch.setattr(streaming, "CHUNK", 3000)
    (tmp_path / "one.txt").write_bytes(b"\n\n".join(words(40, 900, seed=6)))
    blocks = list(stream_documents(str(tmp_path / "one.txt")))
    assert b"".join(blocks) == (tmp_path / "one.txt").read_bytes() and len(blocks) > 3


def test_groups_know_the_last_of_their_split():
    labelled = [("train", b"aa"), ("test", b"b"), ("train", b"cc"), ("train", b"d"), ("test", b"e")]
    assert list(groups(iter(labelled), 2)) == [
        ("train", [b"aa"], False),
        ("train", [b"cc"], False),
        ("train", [b"d"], True),
        ("test", [b"b", b"e"], True),
    ]
    exact = list(groups(iter([("train", b"aa"), ("train", b"bb")]), 2))
    assert exact == [("train", [b"aa"], False), ("train", [b"bb"], True)]


def test_a_killed_command_continues(corpus, tmp_path):
    out = tmp_path / "s"
    code = (
        "import sys, time; from pathlib import Path; from mytnano.text import shard_build as b\n"
        f"r = b.Request({str(corpus)!r}, 'bpe:300', Path({str(out)!r}), shard_bytes=5000)\n"
        "b.build_shards(r, 0, lambda p: time.sleep(0.2))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not (out / "train-00001.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    manifest, fresh = made(corpus, out)
    assert "train-00000" not in fresh and fresh
    assert manifest == made(corpus, tmp_path / "other")[0]


def test_memory_stays_flat(tmp_path):
    """200 MB of ids, read at random all over, in a process that is looked at."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parents[1] / "scripts" / "loader_bench.py"),
         "--folder", str(tmp_path / "set"), "--gigabytes", "0.2", "--seconds", "1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    measured = json.loads(done.stdout)
    assert measured["mapped_bytes"] >= 3 * measured["set_bytes"] > 3 * 0.19e9
    assert measured["resident_growth_bytes"] < 0.6 * measured["set_bytes"]


def test_the_largest_shard_is_refused(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_build, "LARGEST_TEXT", 100)
    with pytest.raises(UserError, match="give a smaller --shard-mb"):
        made(corpus, tmp_path / "s")
