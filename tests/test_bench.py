"""The race: who takes part, that every step trains, and that numbers and failures arrive whole."""

import io
import json
from dataclasses import replace

import pytest
import torch
from bench_toys import NANOGPT
from rich.console import Console

from mytnano.bench import compare, lanes, steps
from mytnano.bench.compare import find_nanogpt, find_shape, ratio, run_bench, summary, table
from mytnano.bench.lanes import Lane, race
from mytnano.bench.shapes import SHAPES, Contestant, Shape, contestants, model_config
from mytnano.cli.bench import bench
from mytnano.errors import UserError
from mytnano.model.transformer import Transformer
from mytnano.training.engine import Engine

TINY = Shape("T", vocabulary=40, width=8, heads=2, layers=1, windows=2, context=6)


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "nanoGPT"
    folder.mkdir()
    (folder / "model.py").write_text(NANOGPT)
    return folder


def fake_lane(contestant, seconds, failure=None):
    lane = Lane.__new__(Lane)
    lane.contestant, lane.seconds, lane.cpu_seconds = contestant, seconds, seconds
    lane.compile_seconds, lane.peak_bytes, lane.failure = 1.5, 2_000_000, failure
    return lane


def parameters(design, shape):
    return sum(p.numel() for p in Transformer(model_config(design, shape)).parameters())


def test_our_gpt2_is_nanogpts_model():
    # nanoGPT without biases; ours has the biases of its LayerNorms besides.
    V, d, L, T = TINY.vocabulary, TINY.width, TINY.layers, TINY.context
    nanogpt = V * d + T * d + L * (12 * d * d + 2 * d) + d
    assert parameters("gpt2", TINY) == nanogpt + (2 * L + 1) * d


@pytest.mark.extras
def test_our_mytnano_is_huggingfaces_model():
    transformers = pytest.importorskip("transformers")
    design = model_config("mytnano", TINY)
    config = transformers.LlamaConfig(
        vocab_size=TINY.vocabulary, hidden_size=TINY.width, num_hidden_layers=TINY.layers,
        intermediate_size=design.ffn_width, num_attention_heads=design.heads,
        num_key_value_heads=design.kv_heads,
    )  # fmt: skip
    llama = transformers.LlamaForCausalLM(config)
    assert parameters("mytnano", TINY) == sum(p.numel() for p in llama.parameters())


def test_contestants_have_labels_of_their_own():
    racing = contestants(SHAPES["D"], "bf16", {"nanoGPT", "HF Llama"}, compact=27_000)
    labels = [one.label for one in racing]
    assert len(set(labels)) == len(labels)
    compact = [one for one in racing if one.compact]
    assert compact and all("compact V=27000" in one.label for one in compact)
    assert all(one.family == "mytNano" for one in compact)


def test_only_large_vocabularies_are_cut_and_only_present_peers_race():
    racing = contestants(SHAPES["C"], "fp32", {"nanoGPT"}, compact=3000)
    assert not any(one.compact for one in racing)
    assert {one.family for one in racing} == {"mytNano", "nanoGPT"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_of_ours_trains(precision, monkeypatch):
    made = []
    build = lambda config: made.append(Engine(config)) or made[-1]
    monkeypatch.setattr(steps, "Engine", build)
    step = steps.our_step(Contestant("mytNano", "mytnano", TINY, precision))
    x, y = steps.batch(TINY)

    def loss():
        logits = made[0].model.logits(x).float()  # (B, T, V)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()).item()

    before = loss()
    norms = [step().item() for _ in range(30)]
    assert norms[0] > 0 and all(torch.isfinite(torch.tensor(norms)))
    assert loss() < before - 0.1


@pytest.mark.parametrize("precision", ["fp32", "autocast"])
def test_a_step_of_nanogpt_trains(checkout, precision):
    module = steps.nanogpt_module(checkout / "model.py")
    made = []
    module.GPT = lambda config, build=module.GPT: made.append(build(config)) or made[-1]
    step = steps.nanogpt_step(Contestant("nanoGPT", "gpt2", TINY, precision), module)
    x, y = steps.batch(TINY)
    before = made[0](x, y)[1].item()
    for _ in range(20):
        step()
    assert made[0](x, y)[1].item() < before
    assert all(p.grad is None for p in made[0].parameters())


@pytest.mark.extras
def test_a_step_of_llama_trains(monkeypatch):
    pytest.importorskip("transformers")
    losses, real = [], steps.peer_step
    caught = lambda *parts: losses.append(parts[-1]) or real(*parts)
    monkeypatch.setattr(steps, "peer_step", caught)
    step = steps.llama_step(Contestant("HF Llama", "mytnano", TINY, "fp32"))
    before = losses[0]().item()
    for _ in range(30):
        step()
    assert losses[0]().item() < before - 0.1


def test_without_bf16_products_nobody_computes_in_bf16():
    racing = contestants(SHAPES["B"], "fp32", {"nanoGPT", "HF Llama"}, None)
    assert {one.precision for one in racing} == {"fp32"}
    assert {one.family for one in racing if one.compiled} == {"mytNano", "nanoGPT", "HF Llama"}


def test_a_real_race(checkout, monkeypatch):
    monkeypatch.setattr(lanes, "BURST_SECONDS", 0.01)
    ours = Contestant("mytNano", "gpt2", TINY, "fp32")
    nanogpt = Contestant("nanoGPT", "gpt2", TINY, "fp32")
    broken = replace(ours, shape=replace(TINY, heads=3))
    finished = race([ours, nanogpt, broken], 2, 1, checkout / "model.py", "fp32")
    measured = summary(TINY, finished, "fp32")
    first, second, third = measured["contestants"]
    assert first["tokens_per_second"] > 0 and len(first["rounds"]) == 2
    assert first["ratios"]["nanoGPT"] > 0 and second["ratios"]["nanoGPT"] == 1
    assert first["peak_bytes"] > 0 and 0 < first["gemm_fraction"] < 1
    assert "ValidationError" in third["failure"]
    assert "tokens_per_second" not in third


def test_ratios_are_paired_by_round():
    fast = fake_lane(Contestant("mytNano", "gpt2", TINY, "bf16"), [1.0, 10.0, 1.0])
    slow = fake_lane(Contestant("nanoGPT", "gpt2", TINY, "fp32"), [2.0, 20.0, 3.0])
    assert ratio(fast, slow) == 2.0


def test_the_best_peer_is_the_fastest_one_that_did_not_fail():
    product = fake_lane(None, [1.0])
    ours = fake_lane(Contestant("mytNano", "gpt2", TINY, "bf16"), [1.0])
    slow = fake_lane(Contestant("nanoGPT", "gpt2", TINY, "fp32"), [4.0])
    fast = fake_lane(Contestant("nanoGPT", "gpt2", TINY, "autocast", True), [2.0])
    broken = fake_lane(Contestant("HF Llama", "mytnano", TINY, "bf16", True), [], "no compiler")
    measured = summary(TINY, [product, ours, slow, fast, broken], "bf16")
    assert measured["best"] == {"nanoGPT": fast.label}
    assert measured["contestants"][0]["ratios"] == {"nanoGPT": 2.0}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table(TINY, measured))
    text = console.export_text()
    assert "2.00" in text and "failed: no compiler" in text and "12" in text


def test_run_bench_writes_what_it_returns(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SHAPES, "T", TINY)
    monkeypatch.setattr(lanes, "BURST_SECONDS", 0.01)
    monkeypatch.setattr(compare, "available_peers", lambda nanogpt, console: set())
    only = lambda *a: [c for c in contestants(*a) if not c.compiled and c.design == "gpt2"]
    monkeypatch.setattr(compare, "contestants", only)
    out = tmp_path / "bench.json"
    result = run_bench(None, ["T"], 1, out, 1)
    assert json.loads(out.read_text())["shapes"].keys() == {"T"}
    assert result["threads"] == 1 and result["shapes"]["T"]["contestants"][0]["failure"] is None
    assert "tokens/s" in capsys.readouterr().out


def test_missing_peers_are_named(monkeypatch, capsys):
    monkeypatch.setattr(compare.importlib.util, "find_spec", lambda name: None)
    assert compare.available_peers(None, Console()) == set()
    out = capsys.readouterr().out
    assert "--nanogpt" in out and '-e ".[hf]"' in out


def test_bad_input_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="choose from B, C, D"):
        find_shape("E")
    with pytest.raises(UserError, match="checkout"):
        find_nanogpt(tmp_path)
    (tmp_path / "model.py").write_text("x = 1")
    with pytest.raises(UserError, match="checkout"):
        find_nanogpt(tmp_path / "model.py")
    assert find_nanogpt(None) is None


def test_a_checkout_may_be_a_folder_or_the_file(checkout):
    assert find_nanogpt(checkout) == find_nanogpt(checkout / "model.py") == checkout / "model.py"


def test_two_races_at_a_time_are_refused(tmp_path):
    with pytest.raises(UserError, match="--tokenizers and --decode are different races"):
        bench(None, tokenizers=True, decode=tmp_path)
