"""A whole small ladder: what it leaves, how later commands continue it, and what it refuses."""

import csv
import json
import math
from pathlib import Path

import pytest
from ladder_toys import run_ladder, small_attention, write_text

from mytnano.config import SEMANTICS, DataConfig, RunConfig
from mytnano.designs.rates import FILE as RATES
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.kept import read_kept, write_kept
from mytnano.ladder import folder, plan, run
from mytnano.ladder.results import COLUMNS
from mytnano.ladder.sweep import VOCABULARY_FILE
from mytnano.report.data import load_results
from mytnano.runs import store
from mytnano.runs.index import Index
from mytnano.runs.lock import folder_lock
from mytnano.runs.store import finished_runs
from mytnano.text import shard_build
from mytnano.text.shard_build import build_shards
from mytnano.text.tokenizers import load_tokenizer
from mytnano.training.text import read_corpus

ASKED_FOR = [
    "rung", "seed", "tokenizer", "vocab_size", "params", "params_non_embedding", "train_bytes",
    "train_tokens", "flops", "test_loss", "test_accuracy", "test_perplexity",
    "test_bits_per_token", "test_bpb", "status", "tokens_per_second", "seconds",
    "peak_memory_bytes", "config_hash",
]  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "farm.txt")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    small_attention(monkeypatch)


def test_shards_are_refused_before_anything_is_trained(text, tmp_path):
    build_shards(shard_build.Request(str(text), "char", tmp_path / "s", shard_bytes=9000), 0)
    data = DataConfig(corpus=f"shards:{tmp_path / 's'}")
    with pytest.raises(UserError, match="several vocabularies, and shards hold one"):
        run_ladder(text, tmp_path / "out", "bigram", data=data)
    assert not (tmp_path / "out").exists()


def test_a_plan_alone_trains_nothing(text, tmp_path):
    said = run_ladder(text, tmp_path / "out", "bigram", plan_only=True)
    assert "budget smoke: 1 rung, 1 run" in said and " on this machine" in said
    assert not (tmp_path / "out/results.csv").exists()
    assert finished_runs(tmp_path / "out") == ([], [])
    assert "a first look" not in said


def test_a_long_plan_says_what_a_first_look_takes(text, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "LONG", 0.0)
    said = run_ladder(text, tmp_path, "average", "logged-lr", seeds=2, plan_only=True)
    assert "a first look: --seeds 1 takes about" in said
    assert "a first look" not in run_ladder(text, tmp_path, "bigram", seeds=1, plan_only=True)


def rows(out):
    with open(out / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def names(out):
    return [(row["rung"], int(row["seed"])) for row in rows(out)]


def commits_apart(out):
    """Of each row of results.json: the commit that made it, if the last command has another."""
    found = json.loads((out / "results.json").read_text())["runs"]
    return [row.get("made", {}).get("commit") for row in found]


def manifests(out):
    """Run folder -> when it was sealed."""
    return {p.parent.name: p.stat().st_mtime_ns for p in out.glob("runs/*/manifest.json")}


def test_one_command_leaves_all_that_it_promises(text, tmp_path):
    printed = run_ladder(text, tmp_path, "bigram", "average", seeds=2)
    assert "budget smoke: 2 rungs, 4 runs on 1 process; about" in printed
    assert "core: 4 runs of 32 KiB each" in printed
    assert "first 64 KiB only: not comparable" in " ".join(printed.split())

    assert names(tmp_path) == [("bigram", 0), ("bigram", 1), ("average", 0), ("average", 1)]
    found = rows(tmp_path)
    assert list(found[0]) == list(COLUMNS) and list(found[0])[: len(ASKED_FOR)] == ASKED_FOR
    for row in found:
        loss, bpb = float(row["test_loss"]), float(row["test_bpb"])
        assert float(row["test_perplexity"]) == pytest.approx(math.exp(loss))
        assert float(row["test_bits_per_token"]) == pytest.approx(loss / math.log(2))
        assert 0 < bpb < 8 and row["comparable"] == "False"
        assert row["config_hash"] in row["folder"]
    assert len({row["test_bpb"] for row in found}) == 4, "seeds and rungs differ"

    results = json.loads((tmp_path / "results.json").read_text())
    assert results["comparable"] is False and results["budget"]["name"] == "smoke"
    assert results["corpus"]["name"] == "farm.txt"
    assert {"hardware", "torch", "commit", "date", "precision"} <= set(results["environment"])
    for row in results["runs"]:
        config = RunConfig.model_validate(results["configs"][row["rung"]])
        assert config.but(train={"seed": row["seed"]}).hash == row["config_hash"]
    assert len(Index(tmp_path).rows()) == 4
    loaded = load_results(tmp_path)
    assert set(loaded.arms) == {"bigram", "average"}
    assert loaded.baseline("bigram") < loaded.baseline("unigram") < loaded.baseline("uniform")
    counted = loaded.baselines["char_bigrams"]
    assert [each["seed"] for each in counted] == [0, 1] and counted[0]["bpb"] != counted[1]["bpb"]
    assert [row["T"] for row in loaded.attention["rows"]] == [32, 32, 64, 64]


def test_each_finished_run_is_checked_once_a_command(text, tmp_path, monkeypatch):
    run_ladder(text, tmp_path, "bigram", "average")
    asked = []
    real = store.RunFolder.condition
    watch = lambda folder: asked.append(folder.path.name) or real(folder)
    monkeypatch.setattr(store.RunFolder, "condition", watch)
    (tmp_path / "index.sqlite").unlink()
    run_ladder(text, tmp_path, "bigram")
    assert sorted(asked) == sorted(manifests(tmp_path))
    assert [row["rung"] for row in Index(tmp_path).rows()] == ["average", "bigram"]


def test_a_text_that_is_read_more_than_once_is_told(text, tmp_path):
    assert "core: 1 run of 32 KiB each, " in run_ladder(text, tmp_path, "bigram", plan_only=True)
    short = write_text(tmp_path / "short.txt", 25_000)
    said = run_ladder(short, tmp_path / "short", "bigram", plan_only=True)
    assert "32 KiB each (1.6 times the training text, which has" in said


def test_a_later_command_adds_rungs_and_seeds_and_repeats_nothing(text, tmp_path, monkeypatch):
    run_ladder(text, tmp_path, "bigram")
    first = manifests(tmp_path)
    chosen = json.loads((tmp_path / "ladder.json").read_text())["precision"]
    other = {"fp32": "bf16", "bf16": "fp32"}[chosen]
    # A probe that now says otherwise must not make the finished runs other runs.
    probe = lambda device: (other, {chosen: 10_000.0, other: 90_000.0})
    monkeypatch.setattr(folder, "choose_precision", probe)
    monkeypatch.setattr(run, "choose_precision", probe)
    results = json.loads((tmp_path / "results.json").read_text())
    results["environment"]["commit"] = "0123abc"
    atomic_write_json(tmp_path / "results.json", results)
    run_ladder(text, tmp_path, "average")
    assert names(tmp_path) == [("bigram", 0), ("average", 0)]
    assert commits_apart(tmp_path) == ["0123abc", None]
    printed = run_ladder(text, tmp_path, "bigram", seeds=2)
    assert "1 rung, 2 runs on 1 process, 1 finished already" in printed
    assert "finished already: 1 of 2 runs" in printed
    assert names(tmp_path) == [("bigram", 0), ("bigram", 1), ("average", 0)]
    assert commits_apart(tmp_path) == ["0123abc", None, None], "as it was made"
    assert first.items() <= manifests(tmp_path).items()


@pytest.mark.parametrize("wanted", ["fp32", "bf16"])
def test_the_precision_may_be_chosen(text, tmp_path, wanted):
    run_ladder(text, tmp_path, "bigram", precision=wanted)
    assert json.loads((tmp_path / "ladder.json").read_text())["precision"] == wanted
    (run_,) = finished_runs(tmp_path)[0]
    assert run_.config()["train"]["precision"] == wanted
    run_ladder(text, tmp_path, "average")  # auto: the folder's
    other = {"fp32": "bf16", "bf16": "fp32"}[wanted]
    with pytest.raises(UserError, match=f"with --precision {wanted}, and this one has {other}"):
        run_ladder(text, tmp_path, "average", precision=other)


def test_a_folder_keeps_to_one_budget_and_one_text(text, tmp_path):
    out = tmp_path / "out"
    run_ladder(text, out, "bigram")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="with --budget smoke, and this one has quick: choose"):
        run_ladder(text, out, "bigram", budget="quick")
    copy = tmp_path / "copy.txt"
    copy.write_bytes(text.read_bytes())
    copy.write_bytes(copy.read_bytes() + b"And more.")
    with pytest.raises(UserError, match=r"with --corpus .*farm.txt, and this one has .*copy.txt"):
        run_ladder(copy, out, "bigram")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_results_never_shrink_while_a_command_goes_on(text, tmp_path, monkeypatch):
    run_ladder(text, tmp_path, "bigram", "average", seeds=2)
    before = names(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_jobs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_ladder(text, tmp_path, "bigram", "average", seeds=3)
    assert names(tmp_path) == before and len(before) == 4


def test_the_same_text_by_another_name_continues(tmp_path, monkeypatch):
    text, out = write_text(tmp_path / "farm.txt", 30_000), tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    run_ladder(Path("farm.txt"), out, "bigram")
    first = manifests(out)
    for name in ("./farm.txt", text):
        data = DataConfig(corpus=str(name))
        assert "1 finished already" in run_ladder(text, out, "bigram", data=data)
    assert manifests(out) == first
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    read_corpus.cache_clear()  # another command would be another process
    with pytest.raises(UserError, match=r"calls its text 'farm.txt', which is not there from this"):
        run_ladder(Path("../farm.txt"), out, "bigram")


@pytest.mark.parametrize("newer", [True, False])
def test_a_ladder_of_another_version_is_a_sentence(text, tmp_path, newer):
    run_ladder(text, tmp_path, "bigram")
    found = read_kept(tmp_path / folder.FILE)
    found |= {"invented_later": 3} if newer else {}
    del found["device" if not newer else "fleet"]
    write_kept(tmp_path / folder.FILE, None, found)
    with pytest.raises(UserError, match=r"was begun by another version, .*: choose another --out"):
        run_ladder(text, tmp_path, "average")


def test_a_text_that_has_changed_is_another_text(tmp_path):
    text, out = write_text(tmp_path / "farm.txt", 30_000), tmp_path / "out"
    run_ladder(text, out, "bigram")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    text.write_bytes(text.read_bytes() + b"And another sentence.\n")
    read_corpus.cache_clear()  # another command would be another process
    with pytest.raises(UserError, match="has changed since the ladder in"):
        run_ladder(text, out, "bigram")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_a_folder_without_runs_is_free(text, tmp_path):
    folder.write_kept(tmp_path / "ladder.json", None, {"budget": "quick"})
    run_ladder(text, tmp_path, "bigram")
    assert names(tmp_path) == [("bigram", 0)]


@pytest.mark.parametrize("damage", ["gone", "garbage", "one digit"])
def test_what_is_damaged_is_found_and_made_anew(text, tmp_path, damage):
    run_ladder(text, tmp_path, "bigram", "bpe")
    kept = ["ladder.json", "baselines.json", "attention.json", "results.json", "results.csv"]
    before = {name: (tmp_path / name).read_bytes() for name in kept}
    sealed = manifests(tmp_path)
    for name in [*kept, "index.sqlite"]:
        spoil(tmp_path / name, damage)
    for path in (tmp_path / "cache").iterdir():
        spoil(path, damage)
    printed = run_ladder(text, tmp_path, "bigram", "bpe")
    after = {name: (tmp_path / name).read_bytes() for name in kept}
    assert sealed == manifests(tmp_path), "a finished run was repeated"
    assert "ladder.json was missing or damaged" in printed
    for name in ("ladder.json", "baselines.json", "results.json", "results.csv"):
        assert after[name] == before[name], name
    assert len(Index(tmp_path).rows()) == 2
    assert json.loads(after["attention.json"])["tokens"] == 64


def spoil(path, damage):
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"\xff{" + content[: len(content) // 2])
    else:
        place = next(i for i, byte in enumerate(content) if 0x31 <= byte <= 0x38)
        path.write_bytes(content[:place] + bytes([content[place] + 1]) + content[place + 1 :])


def test_a_damaged_run_is_moved_aside_and_repeated(text, tmp_path):
    run_ladder(text, tmp_path, "bigram", "average")
    before, sealed = rows(tmp_path), manifests(tmp_path)
    victim = next(name for name in sealed if name.startswith("bigram"))
    spoil(tmp_path / "runs" / victim / "result.json", "one digit")
    printed = run_ladder(text, tmp_path, "bigram")
    assert f"{victim} is damaged (result.json does not match its checksum)" in printed
    assert [row["test_bpb"] for row in rows(tmp_path)] == [row["test_bpb"] for row in before]
    after = manifests(tmp_path)
    assert after.pop(f"{victim}.damaged-1") == sealed[victim]
    assert {name for name in after if after[name] != sealed[name]} == {victim}


def test_runs_of_other_rates_stay_but_are_no_rows(text, tmp_path):
    run_ladder(text, tmp_path, "bigram", "average", precision="fp32")
    sealed = manifests(tmp_path)
    made = {"semantics": SEMANTICS}
    rates = made | {"train_bytes": 2**20, "rungs": {"bigram": {"lr": 1e-4}}}
    (tmp_path / RATES).write_text(json.dumps(rates))
    sizes = made | {"best": "bpe:512", "rungs": {"bpe:512": {}}}
    (tmp_path / VOCABULARY_FILE).write_text(json.dumps(sizes))
    printed = run_ladder(text, tmp_path, "bigram")
    assert "finished run" in printed and "will not be among the results" in printed
    assert names(tmp_path).count(("bigram", 0)) == 1
    assert float(rows(tmp_path)[0]["lr"]) == pytest.approx(1e-4 * 32**0.25, rel=0.01)
    assert sealed.items() < manifests(tmp_path).items()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), UserError("the disk is full")])
def test_what_is_finished_is_in_the_results_however_it_ends(
    text, tmp_path, monkeypatch, interruption
):
    def work(job, report):
        if job.rung == "average":  # the shorter, which comes last
            raise interruption
        working(job, report)

    working = run.work
    monkeypatch.setattr(run, "work", work)
    with pytest.raises(type(interruption)):
        run_ladder(text, tmp_path, "attention", "average")
    assert names(tmp_path) == [("attention", 0)]
    assert load_results(tmp_path).arms["attention"].mean() > 0, "it can be reported"
    monkeypatch.setattr(run, "work", working)
    sealed = manifests(tmp_path)
    run_ladder(text, tmp_path, "attention", "average")
    assert names(tmp_path) == [("average", 0), ("attention", 0)]
    assert sealed.items() <= manifests(tmp_path).items()


def test_a_text_too_small_for_a_vocabulary_gets_a_smaller_one_and_is_told(text, tmp_path):
    printed = run_ladder(text, tmp_path, "bpe", seeds=2)
    assert printed.count("is larger than the text supports") == 1
    size = int(rows(tmp_path)[0]["vocab_size"])
    assert size in (512, 1024, 2048, 4096)
    assert f"bpe:{size} is used instead" in printed
    assert rows(tmp_path)[1]["tokenizer"] == f"bpe:{size}"


@pytest.mark.parametrize("rung", ["bigram", "bpe", "cl100k"])
def test_a_run_folder_holds_its_tokenizer(text, tmp_path, rung):
    run_ladder(text, tmp_path, rung)
    (run_,) = finished_runs(tmp_path)[0]
    tokenizer = load_tokenizer(run_.path / "tokenizer")
    assert tokenizer.vocab_size == run_.config()["model"]["vocab_size"]
    assert tokenizer.name == rows(tmp_path)[0]["tokenizer"]
    sample = text.read_bytes()[:2000] + b"\xff\x00"
    assert tokenizer.decode(tokenizer.encode(sample)) == sample


def test_two_ladders_in_one_folder(text, tmp_path):
    with folder_lock(tmp_path), pytest.raises(UserError, match="already working in"):
        run_ladder(text, tmp_path, "bigram")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"budget": "huge"}, "'huge' is not a budget; choose from smoke, quick, standard"),
        ({"rungs": ("bigram", "trigram")}, "'trigram' is not a rung or a group"),
        ({"device": "abacus"}, "'abacus' is not a device; choose from auto"),
        ({"precision": "fp8"}, "'fp8' is not a precision; choose from auto, fp32, bf16"),
    ],
)
def test_what_is_unknown_is_named_before_anything_is_written(text, tmp_path, more, words):
    rungs = more.pop("rungs", ("bigram",))
    with pytest.raises(UserError, match=words):
        run_ladder(text, tmp_path / "out", *rungs, **more)
    assert not (tmp_path / "out").exists()


def test_a_corpus_that_cannot_be_used_leaves_no_folder(tmp_path):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "short.txt").write_text("Too little. " * 100)
    for name, words in (
        ("no-such", "neither a known corpus"),
        ("empty.txt", "holds no text"),
        ("short.txt", "holds 1,200 bytes of text; at least 20,000 are needed"),
    ):
        with pytest.raises(UserError, match=words):
            run_ladder(tmp_path / name, tmp_path / "out", "bigram")
    assert not (tmp_path / "out").exists()


def test_invalid_utf8_is_kept_and_told(text, tmp_path):
    odd = tmp_path / "odd.txt"
    odd.write_bytes(text.read_bytes().replace(b"river", b"r\xffv\xfer"))
    printed = run_ladder(odd, tmp_path / "out", "bigram")
    assert "hold invalid UTF-8; their bytes are kept as they are" in printed
    sizes = json.loads((tmp_path / "out" / "results.json").read_text())["corpus"]["bytes"]
    assert sum(sizes.values()) == odd.stat().st_size


def test_workers_and_this_process_make_the_same_runs(text, tmp_path):
    run_ladder(text, tmp_path / "here", "attention")
    run_ladder(text, tmp_path / "there", "attention", workers=1)
    here, there = rows(tmp_path / "here"), rows(tmp_path / "there")
    assert here[0]["test_bpb"] == there[0]["test_bpb"]
    assert finished_runs(tmp_path / "here")[0][0].path.name == here[0]["folder"].split("/")[1]
    assert here[0]["folder"] == there[0]["folder"]
