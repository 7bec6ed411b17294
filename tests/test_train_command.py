"""``mytnano train``: what it leaves, and what it refuses."""

import io
import itertools
import json
import random

import pytest
import torch
import train_toys
from rich.console import Console
from train_toys import STEPS, command, finished_run, hurry, made, text_file, toy_request

from mytnano.config import RunConfig
from mytnano.designs.recipes import sized
from mytnano.designs.scale import SCALE
from mytnano.errors import UserError
from mytnano.kept import read_kept, write_kept
from mytnano.measure.flops import training_flops
from mytnano.planning.memory import training_memory
from mytnano.runs.store import RunFolder
from mytnano.solo import plan as solo_plan
from mytnano.solo.curves import write_curves
from mytnano.solo.memory import check_memory, fitting_windows, memory_said
from mytnano.training import pace
from mytnano.training.text import prepare, resolve


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return text_file(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def finished(path, tmp_path_factory):
    return finished_run(path, tmp_path_factory.mktemp("out") / "run")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    hurry(monkeypatch)


def test_what_a_run_leaves(finished):
    out, said = finished
    run = RunFolder(out)
    assert run.is_finished()
    assert {each.name for each in out.iterdir()} == {
        ".lock", "config.json", "curves.svg", "manifest.json", "metrics.jsonl",
        "model.safetensors", "plan.json", "result.json", "samples.jsonl", "tokenizer",
    }  # fmt: skip
    config = RunConfig.model_validate(run.config())
    result = run.result()
    assert config.steps == STEPS and config.optim.spike == solo_plan.SPIKE
    manifest = json.loads((out / "manifest.json").read_text())
    assert result["config_hash"] == config.hash == manifest["hash"]
    assert result["test_bpb"] > 0 and result["rung"] == "mytnano" and result["size"] == "nano"
    counted = result["flops"] / result["train_tokens"]  # Muon's among them
    assert counted > training_flops(config.model, 1)
    used = result["tokens_per_second"] * counted
    assert result["peak_share"] == pytest.approx(used / result["peak_flops"])
    assert result["skipped_steps"] == 0
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert [s["step"] for s in samples] == [15, 15, 30, 30, 45, 45, 60, 60]
    assert (out / "curves.svg").read_text().count("<path") > 10
    for words in (
        "1 block of width 16", "60 steps of 4 windows", "bits per byte", "tokens/s",
        f"written to {out}", "% of the peak (measured ",
    ):  # fmt: skip
        assert words in said


def test_a_time_becomes_steps_once(path, tmp_path, monkeypatch):
    request = toy_request(path, minutes=1.0, bytes=None)
    monkeypatch.setattr(pace, "STEPS", 6)
    clock = [request.began + 12.0]
    monkeypatch.setattr("time.time", lambda: clock[0])
    real = solo_plan.step_seconds
    timed = []

    def slow(config, text, budget):
        timed.append(real(config, text, budget))
        return pace.Timed(0.5, 6, timed[-1].engine)

    monkeypatch.setattr(solo_plan, "step_seconds", slow)
    monkeypatch.setattr(
        solo_plan, "measure_pace", lambda timed, text: pace.Pace(0.5, 1e-4, 1e-3, 6)
    )
    plan = solo_plan.make_plan(request, tmp_path, lambda sentence: None)
    other = pace.other_seconds(
        plan.config, prepare(plan.config.data, tmp_path / "cache"), pace.Pace(0.5, 1e-4, 1e-3, 6), 2
    )
    assert plan.config.steps == int((48 * 0.97 - other) / 0.5) > 60
    assert plan.pace["step_seconds"] == 0.5 and plan.pace["timed_steps"] == 6
    assert plan.expected_seconds <= 48
    clock[0] += 1000
    assert solo_plan.found_plan(request, tmp_path) == plan, "the plan is not made again"
    clock[0] = request.began + 58
    with pytest.raises(UserError, match=r"there is time for 0 steps .* give 0\.\d minutes more$"):
        solo_plan.make_plan(request, tmp_path, lambda sentence: None)
    with pytest.raises(UserError, match="minutes more, or a smaller --size"):
        pace.steps_in(1.0, 0.5, 1.0)


def test_the_copy_that_is_timed_is_thrown_away(path, tmp_path):
    config = solo_plan._placed(toy_request(path)).but(train={"train_bytes": 1000})
    config = resolve(config, tmp_path)
    text = prepare(config.data, tmp_path)
    timed = pace.step_seconds(config, text, 1e9)
    assert timed.steps == 20 and timed.seconds > 0
    assert pace.step_seconds(config, text, 0.0).steps == 5
    measured = pace.measure_pace(timed, text)
    assert measured.scored_token > 0 and measured.drawn_token > 0


def test_settings_and_rules(path, tmp_path):
    plan = solo_plan.make_plan(
        toy_request(path, "lr=0.5", "seed=7", "spike=0", recipe="mytnano-modern", tokens=100_000,
                    bytes=None),
        tmp_path, lambda sentence: None,
    )  # fmt: skip
    config = plan.config
    assert (config.optim.lr, config.train.seed, config.optim.spike) == (0.5, 7, 0.0)
    assert config.train.batch_windows == 4 and config.model.value_embeddings
    tokens = config.steps * 4 * config.model.context
    assert tokens == pytest.approx(100_000, rel=0.01)


def test_ranks_share_a_step_evenly(path, tmp_path):
    request = toy_request(path, recipe="mytnano-modern", tokens=100_000, bytes=None)
    del request.changes["train.batch_windows"]  # so that the rule decides
    sizes = []
    for ranks in (1, 3):
        plan = solo_plan.make_plan(request, tmp_path / str(ranks), lambda sentence: None, ranks)
        sizes.append(plan.config.train.batch_windows)
    assert sizes[1] % 3 == 0 and 0 <= sizes[1] - sizes[0] < 3
    given = toy_request(path, "batch_windows=8")
    with pytest.raises(UserError, match="8 windows cannot be shared evenly by 3 ranks: give --np"):
        solo_plan.make_plan(given, tmp_path / "given", lambda sentence: None, 3)
    assert not (tmp_path / "given").exists(), "before any text is read"


def refused(match, request, out, **ways):
    with pytest.raises(UserError, match=match) as error:
        made(request, out, **ways)
    assert "\n" not in str(error.value)


def test_what_is_refused(path, tmp_path, finished):
    new = tmp_path / "new"
    refused("--minutes and --bytes are two budgets", toy_request(path, minutes=1.0), new)
    refused("--minutes must be above zero", toy_request(path, minutes=-1.0, bytes=None), new)
    for minutes in (float("inf"), float("nan")):
        refused(
            "must be above zero, and a finite", toy_request(path, minutes=minutes, bytes=None), new
        )
        refused("checkpoint-minutes must be", toy_request(path), new, checkpoint_minutes=minutes)
    refused("optim.lr: Input should be a finite number", toy_request(path, "lr=inf"), new)
    refused(r"model\.context follows from window_bytes", toy_request(path, "context=3"), new)
    refused("train.train_bytes follows from --minutes", toy_request(path, "train_bytes=9"), new)
    refused("train.fleet follows from --fleet", toy_request(path, "fleet=true"), new)
    unused = toy_request(path, "schedule=cosine", "decay=0.1")
    refused("optim.decay acts only with schedule=wsd: add that, or leave", unused, new)
    refused("'large' is not a size", toy_request(path, size="large"), new)
    refused("is not a precision", toy_request(path, precision="fp8"), new)
    refused("must be a multiple of heads", toy_request(path, "width=15"), new)
    refused(
        "'excel' is not a logger; choose from tensorboard", toy_request(path), new, log=("excel",)
    )
    refused("checkpoint-minutes must be", toy_request(path), new, checkpoint_minutes=0.0)
    large = toy_request(path, "tokenizer=bpe:9999")
    refused(r"bpe:9999 is larger .*: ask for tokenizer=bpe:\d+", large, new)
    out, _ = finished
    before = {each: each.stat().st_mtime_ns for each in out.rglob("*") if each.name != ".lock"}
    words = r"run of another request \(optimizer unset, there muon\): choose another --out"
    refused(words, toy_request(path), out)
    words = r"\(--bytes 9,000, there 15,360; seed 2, there unset\)"
    refused(words, toy_request(path, "optimizer=muon", "seed=2", bytes=9000), out)
    assert before == {e: e.stat().st_mtime_ns for e in out.rglob("*") if e.name != ".lock"}


def test_the_command_line(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    where = ("--corpus", path, "--split", "tail:0.1")
    words = ("mytnano:nano", *where, "--bytes", "2k", "seed=3", *train_toys.SMALL)
    assert command(monkeypatch, *words, "--plan") == 0
    said = capsys.readouterr().out
    assert "8 steps of 4 windows" in said and " to go" in said and "tokens/s" not in said
    assert not (tmp_path / "out").exists(), "a plan leaves nothing"
    assert command(monkeypatch, *words) == 0
    assert "mytnano-nano:" in capsys.readouterr().out
    run = RunFolder(tmp_path / "out" / "train-mytnano-nano-text.txt")
    assert run.is_finished() and run.config()["train"]["seed"] == 3
    assert run.config()["train"]["train_bytes"] == 2048
    for words, sentence in (
        (["mytnano-old"], "'mytnano-old' is not a recipe; choose from mytnano, mytnano-modern"),
        (["mytnano:base", "--size", "nano"], "mytnano:base and --size nano are two sizes"),
        (["--lr", "1e-3"], "settings are NAME=VALUE after the recipe: lr=1e-3; see mytnano train"),
        (["--n-layer=2"], "settings are NAME=VALUE after the recipe: layers=2; see mytnano train"),
        (["--lrr", "2"], "No such option: --lrr"),
        (["--tokens", "many"], "--tokens many is not a number"),
        (["lr"], "'lr' is not a recipe"),
        (["mytnano", "lr"], "'lr' is not NAME=VALUE"),
        (["mytllm-1b", "--size", "nano"], "mytllm-1b has a size of its own: leave --size out"),
        (["--corpus", "missing.txt"], "missing.txt"),
    ):
        assert command(monkeypatch, *words, "--out", tmp_path / "new") == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1
    assert RunFolder(tmp_path / "out" / "train-mytnano-nano-text.txt").is_finished()


def test_a_gpu_that_is_full_is_a_sentence():
    config = sized("mytnano", "nano").but(train={"device": "cuda", "batch_windows": 64})
    said = r"too little free memory for 64 windows .* micro_windows=32"
    with pytest.raises(UserError, match=said), memory_said(config):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_curve_without_any_score_is_drawn(tmp_path):
    point = {"bytes": 1000, "tokens": 400, "validation_bpb": None, "lr": 0.1}
    points = [point | {"train_loss": 5.0}, point | {"train_loss": None}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(p) + "\n" for p in points))
    assert "o-" not in write_curves(tmp_path, "diverged").read_text()


def test_a_folder_of_something_else_is_left_alone(path, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    refused(r"is not empty, and holds no plan\.json", toy_request(path), tmp_path)
    assert mine.read_text() == "precious"


def test_a_run_of_another_version_or_damaged_is_left_alone(path, tmp_path, monkeypatch):
    request = toy_request(path, bytes=2000)
    made(request, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(solo_plan, "SEMANTICS", 99)
        refused("was begun by another version", request, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    refused(r"damaged \(model.safetensors does not match its checksum\)", request, tmp_path)
    (tmp_path / "plan.json").write_text("{")
    refused(r"holds no plan\.json that is whole", request, tmp_path)
    assert weights.exists()


@pytest.mark.parametrize("field", ["config", "pace"])
def test_a_plan_of_a_newer_version_is_a_sentence(finished, path, tmp_path, field):
    found = read_kept(finished[0] / "plan.json")
    found["config"]["model"]["invented_later"] = True
    if field == "pace":
        found["config"]["model"].pop("invented_later")
        found["speed"] = found.pop("pace")
    write_kept(tmp_path / "plan.json", None, found)
    refused("was begun by another version", toy_request(path, "optimizer=muon"), tmp_path)


def test_a_text_too_small_for_the_recipes_vocabulary_gets_a_smaller_one(tmp_path):
    text, drawn = tmp_path / "random.txt", random.Random(0)
    words = ["".join(letters) for letters in itertools.product("abcdefgh", repeat=3)][:400]
    text.write_text("\n\n".join(" ".join(drawn.choices(words, k=150)) for _ in range(50)))
    request = toy_request(text)
    del request.changes["data.tokenizer"]
    said = []
    plan = solo_plan.make_plan(request, tmp_path / "run", said.append)
    assert plan.config.data.tokenizer == "bpe:512"
    assert len(said) == 1 and "bpe:512 is used instead" in said[0]


def test_ranks_meet_where_the_run_is(path, tmp_path, monkeypatch):
    request = toy_request(path)
    assert solo_plan.meeting_device(request, tmp_path) == "cpu"
    plan = solo_plan.make_plan(request, tmp_path, lambda sentence: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert solo_plan.meeting_device(request, tmp_path) == "cpu"
    assert solo_plan.meeting_device(request, tmp_path / "new") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    moved = plan.config.but(train={"device": "cuda"})
    with pytest.raises(UserError, match="is on cuda, which this machine does not have: go on"):
        solo_plan.check_device(moved, tmp_path)


def test_what_cannot_fit_is_refused_before_anything_is_written(path, tmp_path, monkeypatch):
    monkeypatch.setattr(solo_plan, "free_for_each", lambda device, ranks: 1 << 16)
    refused(r"predicted to take 0\.\d GiB, and 0\.0 GiB are free here \(cpu\): give a smaller",
            toy_request(path, "recompute=true"), tmp_path / "run")  # fmt: skip
    assert not (tmp_path / "run" / "plan.json").exists()


def test_only_what_suffices_is_advised():
    config = SCALE["mytllm-tiny"].but(train={"micro_windows": 8})
    needs = lambda **train: training_memory(config.but(train=train), sharded=True).tensors

    def advice(free):
        with pytest.raises(UserError) as refused:
            check_memory(config, 1, free, sharded=True)
        return str(refused.value).partition("give ")[2]

    assert advice(needs(micro_windows=4)) == (
        "micro_windows=4, recompute=true, a smaller model or more ranks"
    )
    least = needs(recompute=True)
    assert least < needs(micro_windows=1), "else nothing is asked here"
    assert advice(least) == "recompute=true, a smaller model or more ranks"
    assert advice(least - 1) == "a smaller model or more ranks"


def test_passes_are_halved_until_a_rank_has_room():
    config = SCALE["mytllm-tiny"].but(train={"device": "cuda", "micro_windows": 0})
    everything = training_memory(config, 2).total
    assert fitting_windows(config, 2, 4, 2 * everything) == 4
    assert fitting_windows(config, 2, 4, everything // 2) in (1, 2)
    assert fitting_windows(config, 2, 4, 0) == 1


def test_a_run_without_a_score_of_the_test_text_says_so(path, tmp_path):
    said = io.StringIO()
    request = toy_request(path, "score_test=false", bytes=2000)
    made(request, tmp_path, Console(file=said, width=400))
    assert "bits per byte; the test text was not scored; " in said.getvalue()
    assert "no scores" not in said.getvalue()
