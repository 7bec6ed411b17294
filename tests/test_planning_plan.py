"""Plans: hardware by name, memory counted and measured, advice that helps."""

import json
import math
import sys
from pathlib import Path

import pytest
from measured_memory import measured_peak
from model_toys import HEALTHY

from mytnano.config import RunConfig
from mytnano.designs.baselines import starting_design
from mytnano.designs.recipes import batch_windows
from mytnano.designs.scale import SCALE
from mytnano.errors import UserError
from mytnano.measure import memory_plan
from mytnano.measure.devices import DEVICES
from mytnano.measure.flops import training_flops
from mytnano.measure.memory_plan import chunk_rows, count_weights, one_pass, state_bytes
from mytnano.planning.hardware import parse_hardware
from mytnano.planning.memory import micro_windows, training_memory
from mytnano.planning.plan import (
    VOCABULARY,
    as_json,
    design_named,
    gigabytes,
    halves,
    is_recipe,
    make_plan,
    sentences,
)
from mytnano.solo.memory import evened, fitting_windows
from mytnano.text.tokenizers import build_tokenizer
from mytnano.training.engine import recompute_blocks
from mytnano.training.matching import run_flops

SMALL = {**HEALTHY, "vocab_size": 300, "context": 64}


def config(model=None, **sections):
    return starting_design("small").but(model={**SMALL, **(model or {})}, **sections)


def test_hardware():
    assert parse_hardware("8xH100") == (8, DEVICES["H100"])
    assert parse_hardware("h100 pcie") == (1, DEVICES["H100-PCIe"])
    assert parse_hardware("2 x a100-80gb")[0] == 2
    for wrong in ("TPU", "8x", "", "8xV100"):
        with pytest.raises(UserError, match=r"unknown hardware '.*'; known: H200, H100"):
            parse_hardware(wrong)
    with pytest.raises(UserError, match="not a number of devices"):
        parse_hardware("0xH100")
    for device in DEVICES.values():
        assert 5e13 < device.flops < 2e15 and 2e10 < device.memory < 2e11 and device.source


def test_weights_are_counted():
    weights = count_weights(config().model)
    d, f = 32, 88
    block = 2 * d * d + 2 * d * d // 2 + 3 * d * f
    assert weights.hidden == 2 * block and weights.head == 300 * d
    assert weights.largest_block == block + 2 * d and weights.root == 2 * 300 * d + d
    assert weights.total == 2 * weights.largest_block + weights.root
    tied = count_weights(config({"tied": True}).model)
    assert tied.total == weights.total - 300 * d and tied.head == weights.head
    adam, muon, lion = (
        state_bytes(weights, config(optim={"optimizer": name}).optim)
        for name in ("adamw", "muon", "lion")
    )
    assert adam == 8 * weights.total and lion == 4 * weights.total
    assert muon == adam - 4 * weights.hidden


def test_a_pass_grows_with_windows_and_depth_alone():
    model = config().model
    one, two = (one_pass(model, windows) for windows in (1, 2))
    assert two.kept == pytest.approx(2 * one.kept, rel=0.1)
    half = one_pass(model, 2, "bf16")
    assert half.kept == pytest.approx(two.kept / 2, rel=0.15)


def test_deep_models_are_extrapolated_exactly(monkeypatch):
    model = config({"layers": 6}).model
    line = one_pass(model, 2, "bf16")
    monkeypatch.setattr(memory_plan, "DEEP", 99)
    one_pass.cache_clear()
    assert one_pass(model, 2, "bf16") == line
    one_pass.cache_clear()


def test_a_few_chunks_of_logits_stand_for_all(monkeypatch):
    model = config({"vocab_size": 5000}).model
    monkeypatch.setattr("mytnano.model.loss.CHUNK_ELEMENTS", 1)
    few = one_pass(model, 8)
    monkeypatch.setattr(memory_plan, "SHORT_HEAD", 99)
    one_pass.cache_clear()
    assert one_pass(model, 8) == few
    one_pass.cache_clear()


def test_the_windows_of_one_pass_fit_the_memory():
    wanted = config({"vocab_size": 4096}).but(
        train={"device": "cuda", "precision": "bf16", "batch_windows": 64}
    )
    everything = training_memory(wanted.but(train={"micro_windows": 64})).total
    assert fitting_windows(wanted, 1, 64, 2 * everything) == 64
    fewer = fitting_windows(wanted, 1, 64, everything // 2)
    assert 1 < fewer < 64
    assert training_memory(wanted.but(train={"micro_windows": fewer})).total < everything // 2
    assert fitting_windows(wanted, 1, 64, 0) == 1


def test_a_step_has_passes_of_one_size_where_it_can():
    """Each other size is compiled anew."""
    cases = {(25, 50): 25, (13, 50): 10, (13, 53): 11, (8, 64): 8, (5, 7): 4, (1, 7): 1}
    assert {case: evened(*case) for case in cases} == cases


def test_a_gpu_forms_more_logits_at_once():
    model = config({"vocab_size": 30_000}).model
    assert chunk_rows(model, "cuda") > chunk_rows(model) >= 128
    on_cpu, on_gpu = one_pass(model, 64), one_pass(model, 64, device="cuda")
    assert on_gpu.logits > on_cpu.logits and on_gpu.working > on_cpu.working


def test_recomputation_keeps_less():
    model = config({"layers": 3}).model
    all_kept, inputs = one_pass(model, 4), one_pass(model, 4, prepare=recompute_blocks)
    assert inputs.kept < 0.4 * all_kept.kept
    assert inputs.kept + inputs.working < all_kept.kept + all_kept.working


def test_parts_of_one_device():
    made = config(train={"batch_windows": 4})
    memory, total = training_memory(made), count_weights(made.model).total
    assert (memory.weights, memory.gradients, memory.optimizer) == (4 * total, 4 * total, 8 * total)
    assert memory.copies == memory.summed == memory.average == 0
    assert memory.total == memory.tensors + memory.allocator
    low = training_memory(made.but(train={"precision": "bf16"}, optim={"ema": 0.9}))
    assert low.copies == 2 * total and low.average == 4 * total
    gpu = training_memory(made.but(train={"device": "cuda"}))
    assert gpu.allocator == 0


def test_parts_of_many_devices():
    made = config(train={"batch_windows": 8, "precision": "bf16", "device": "cuda"})
    one, four = training_memory(made), training_memory(made, 4)
    assert four.weights == math.ceil(one.weights / 4) and 4 * four.optimizer >= one.optimizer
    assert four.activations < one.activations / 3
    assert four.summed < training_memory(made.but(train={"micro_windows": 1}), 4).summed


def test_the_sharded_engine_takes_more_on_one_device_too():
    made = config(train={"batch_windows": 8, "precision": "bf16", "device": "cuda"})
    weights = count_weights(made.model)
    plain, ranks = training_memory(made), training_memory(made, 1, sharded=True)
    assert ranks.weights == plain.weights and ranks.optimizer == plain.optimizer
    assert plain.summed == 0 < ranks.summed < 4 * weights.total + 12 * weights.largest_block
    assert ranks.copies > 8 * weights.root, "gathered weights, and gradients of tables in fp32"
    passes = training_memory(made.but(train={"micro_windows": 1}), 1, sharded=True)
    assert passes.summed == 4 * weights.total


def test_a_probe_counts_where_a_step_takes_less():
    made = config({"width": 64, "heads": 4, "kv_heads": 4, "ffn_width": 256, "context": 256})
    few = {"batch_windows": 8, "micro_windows": 1, "recompute": True}
    small = training_memory(made.but(train=few))
    scores = 4 * 3 * 8 * 4 * 256**2
    assert small.probe + small.activations + small.working > scores > small.activations
    plain = made.but(train={"batch_windows": 64})
    assert training_memory(plain).probe == 0
    copy = 4 * count_weights(made.model).total
    assert training_memory(plain.but(train={"recompute": True})).probe == copy
    seen = measured_peak(made.but(train=few), True) if sys.platform == "linux" else 0
    assert seen <= 1.1 * small.tensors


def test_micro_windows_are_those_of_the_engine():
    assert micro_windows(config({"context": 512}), 100) == 8
    assert micro_windows(config({"context": 512}, train={"micro_windows": 3}), 100) == 3
    assert micro_windows(config(train={"device": "cuda"}), 100) == 100


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget a peak")
def test_tensors_are_predicted_as_they_are_measured():
    made = config(
        {"width": 64, "heads": 4, "kv_heads": 4, "ffn_width": 512, "vocab_size": 2000},
        train={"batch_windows": 64},
    )
    memory = training_memory(made)
    assert memory.tensors == pytest.approx(measured_peak(made, True), rel=0.1)


@pytest.mark.extras
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget a peak")
def test_memory_is_predicted():
    """The tensors alone: how much of a heap lies idle differs between machines, by a fifth and more
    of all memory."""
    import memory_plan as script

    plain = [name for name in script.SHAPES if script.RECOMPUTE not in name]
    assert len(plain) >= 5
    for name in plain:
        memory = training_memory(script.config_of(name))
        found = measured_peak(script.config_of(name), True)
        assert memory.tensors == pytest.approx(found, rel=0.1), name


def test_published_memory():
    path = Path(__file__).parents[1] / "results" / "scale" / "memory.json"
    shapes = json.loads(path.read_text())["shapes"]
    assert sum(abs(shape["ratio"] - 1) < 0.1 for shape in shapes.values()) >= 5
    assert all(abs(shape["tensors_ratio"] - 1) < 0.05 for shape in shapes.values())


def test_a_plan():
    made = config(train={"batch_windows": 64})
    plan = make_plan(made, DEVICES["H100"], 2, 1_000_000)
    assert plan.fits and plan.steps == round(1_000_000 / (64 * 64))
    assert plan.flops == training_flops(made.model, 1_000_000)
    assert plan.hours[1] == pytest.approx(plan.flops / (2 * 989e12 * 0.3 * 3600))
    said = "\n".join(sentences(plan, "small"))
    assert "it fits" in said and "assumption" in said and "with recompute=true" in said
    assert json.loads(json.dumps(as_json(plan)))["fits"] is True
    with pytest.raises(UserError, match=r"3 devices cannot share the 64 windows.*=66"):
        make_plan(made, DEVICES["H100"], 3, 1000)


def test_recomputation_takes_time():
    made = config(train={"batch_windows": 64})
    plain, again = (
        make_plan(made.but(train={"recompute": on}), DEVICES["H100"], 1, 10**6)
        for on in (False, True)
    )
    assert again.flops == plain.flops and plain.recomputed == 0
    assert again.hours[0] / plain.hours[0] == pytest.approx(1 + again.recomputed / plain.flops)
    head = 3 * 2 * made.model.width * made.model.vocab_size * 10**6
    assert again.recomputed == pytest.approx((training_flops(made.model, 10**6) - head) / 3)
    assert "to recompute" in "".join(sentences(again, "small"))


def test_a_share_of_the_peak_that_was_measured():
    made = config(train={"batch_windows": 64})
    plan = make_plan(made, DEVICES["H100"], 1, 10**6, mfu=0.4)
    assert plan.hours[0] == plan.hours[1] == pytest.approx(plan.flops / (0.4 * 989e12 * 3600))
    assert "at 0.4 of the published" in sentences(plan, "small")[-1]
    assert not as_json(plan)["mfu_assumed"]
    for wrong in (0.0, 1.2, -1.0):
        with pytest.raises(UserError, match="--mfu must be above 0"):
            make_plan(made, DEVICES["H100"], 1, 10**6, mfu=wrong)


def test_a_plan_counts_the_operations_of_its_optimizer_as_a_run_does():
    made = config(train={"batch_windows": 64}, optim={"optimizer": "muon"})
    steps = 250
    tokens = steps * 64 * made.model.context
    run = made.but(train={"train_bytes": steps * 64 * made.data.window_bytes})
    plan = make_plan(made, DEVICES["H100"], 2, tokens)
    assert plan.flops == run_flops(run) > training_flops(made.model, tokens)
    assert as_json(plan)["flops_per_token"] == plan.flops / tokens


def test_a_context_keeps_the_tokens_of_a_step():
    plan = make_plan(config(train={"batch_windows": 64}), DEVICES["H100"], 1, 10**6, context=256)
    assert plan.config.model.context == 256 and plan.config.train.batch_windows == 16
    with pytest.raises(UserError, match="the context must be 2 to"):
        make_plan(config(), DEVICES["H100"], 1, 10**6, context=1)


def test_advice_makes_it_fit():
    made = config(train={"batch_windows": 64})
    needed = training_memory(made.but(train={"precision": "bf16", "device": "cuda"})).total
    small = DEVICES["L4"].__class__("small", 1e12, (needed // 2 + (1 << 30)) * 100 // 94, "a test")
    plan = make_plan(made, small, 1, 10**6)
    assert not plan.fits and any("micro_windows=" in sentence for sentence in plan.advice)
    words = next(s.split(" fits")[0] for s in plan.advice if "micro" in s)
    windows = int(words.rpartition("=")[2])
    helped = make_plan(made.but(train={"micro_windows": windows}), small, 1, 10**6)
    assert helped.fits
    assert not any(" would fit" in sentence for sentence in plan.advice), "a setting suffices"
    hopeless = small.__class__("tiny", 1e12, 1 << 30, "a test")
    assert "nothing of micro-batches" in make_plan(made, hopeless, 1, 10**6).advice[0]
    assert halves(9) == [4, 2, 1]


def test_more_devices_are_advised_with_the_settings_that_make_them_few():
    plan = make_plan(SCALE["mytllm-1b"], DEVICES["RTX-4090"], 1, 10**9, sharded=True)
    (said,) = plan.advice
    number, _, settings = said.removesuffix(" would fit").partition("xRTX-4090 with ")
    changes = dict(setting.split("=") for setting in settings.split(" and "))
    helped = design_named("mytllm-1b", {f"train.{name}": v for name, v in changes.items()})
    assert make_plan(helped, DEVICES["RTX-4090"], int(number), 10**9).fits
    assert int(number) <= 8


def test_the_vocabulary_of_cl100k_is_that_of_its_tokenizer(tmp_path):
    assert build_tokenizer("cl100k", [b"abc"], tmp_path).vocab_size == VOCABULARY["cl100k"]


def test_a_recipe_has_the_batch_that_its_training_would_have():
    made, tokens = design_named("mytnano:small"), 10**9
    plan = make_plan(made, DEVICES["H100"], 8, tokens, batch_rule=True)
    windows = batch_windows(tokens, made.model.context)
    assert 0 <= plan.config.train.batch_windows - windows < 8
    longer = make_plan(made, DEVICES["H100"], 8, tokens, context=1024, batch_rule=True)
    assert longer.config.train.batch_windows % 8 == 0
    assert is_recipe("mytnano:small") and is_recipe("mytnano-modern")
    assert not is_recipe("mytnano") and not is_recipe("mytllm-1b")


def test_a_name_that_a_rung_and_a_recipe_share_is_explained():
    plan = make_plan(config(train={"batch_windows": 4}), DEVICES["L4"], 1, 10**6)
    assert (
        sentences(plan, "mytnano")[0] == "mytnano is the ladder's rung; as a recipe: mytnano:nano"
    )
    assert sentences(plan, "mytnano:nano")[0].startswith("mytnano:nano: ")


def test_small_sizes_are_megabytes():
    assert [gigabytes(size) for size in (1.23e10, 1e8, 5e6)] == ["12.30 GB", "0.10 GB", "5.00 MB"]


def test_designs_by_name():
    assert design_named("mytllm-tiny") == SCALE["mytllm-tiny"]
    rung = design_named("mytnano")
    assert rung.model.vocab_size == 8192 and 50 < rung.model.context < 100
    assert isinstance(design_named("bigram"), RunConfig)
    larger = design_named("mytnano", {"data.tokenizer": "bpe:32768", "data.window_bytes": 1024})
    assert larger.model.vocab_size == 32_768 and 200 < larger.model.context < 400
    asked = design_named("mytnano", {"model.vocab_size": 500, "data.tokenizer": "bpe:32768"})
    assert asked.model.vocab_size == 500
    with pytest.raises(UserError, match=r"'nothing' is not .*mytllm-1b"):
        design_named("nothing")
