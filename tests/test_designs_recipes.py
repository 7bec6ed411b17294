"""Recipes and sizes: what their names promise, and the rules behind the dial."""

import json
from pathlib import Path

import pytest

from mytnano.config import RunConfig
from mytnano.designs.baselines import starting_design
from mytnano.designs.recipes import (
    EARNED,
    RATES,
    RECIPES,
    SIZES,
    SPEEDRUN,
    batch_windows,
    learning_rate,
    parameters,
    sized,
)
from mytnano.designs.rungs import design
from mytnano.designs.settings import amount, assignments, changed, full_name, known_as
from mytnano.errors import UserError
from mytnano.lab.spec import read_spec

RESULTS = Path(__file__).parent.parent / "results"
EVERY = [(recipe, size) for recipe in RECIPES for size in SIZES]


@pytest.mark.parametrize(("recipe", "size"), EVERY)
def test_a_size_has_about_the_parameters_of_its_name(recipe, size):
    config, promised = sized(recipe, size), SIZES[size]
    assert config.data.tokenizer == f"bpe:{promised.vocabulary}"
    count = parameters(config.model, promised.vocabulary)
    assert abs(count / promised.parameters - 1) < 0.12, count
    for layers in (config.model.layers - 1, config.model.layers + 1):
        other = parameters(config.model.but(layers=layers), promised.vocabulary)
        assert abs(other - promised.parameters) >= abs(count - promised.parameters)
    assert config.model.width % config.model.heads == 0
    assert config.model.width // config.model.heads in (32, 64)


def test_sizes_grow():
    for recipe in RECIPES:
        models = [sized(recipe, size).model for size in SIZES]
        assert [m.width for m in models] == sorted(m.width for m in models)


def test_mytnano_is_the_logs_final_design_at_another_size():
    rung, recipe = design("mytnano"), sized("mytnano", "nano")
    free = {"layers", "width", "heads", "kv_heads", "ffn_width", "vocab_size", "context"}
    for section in ("model", "optim"):
        one, other = (getattr(config, section).model_dump() for config in (rung, recipe))
        assert {k: v for k, v in one.items() if k not in free} == {
            k: v for k, v in other.items() if k not in free
        }
    nano = recipe.model
    assert (nano.width, nano.layers, nano.heads, nano.kv_heads, nano.ffn_width) == (
        rung.model.width, rung.model.layers, rung.model.heads, rung.model.kv_heads,
        rung.model.ffn_width,
    )  # fmt: skip


def test_speedrun_has_every_part_it_names():
    config = sized("mytnano-speedrun", "small")
    for section, parts in SPEEDRUN.items():
        for name, value in parts.items():
            assert getattr(getattr(config, section), name) == value, name
            assert getattr(getattr(RunConfig(), section), name) != value or name in {
                "mixer", "residual", "norm_place", "weight_decay", "final_lr", "grad_clip",
            }, name  # fmt: skip


def test_modern_is_the_logs_design_with_the_parts_that_earned_their_place():
    found = json.loads((RESULTS / "lab/modern-parts/answer.json").read_text())
    worse = {arm["name"] for arm in found["arms"] if arm["verdict"] == "worse"}
    assert worse == {"equal-rates", "cosine", "no-value-embeddings"}
    modern, plain = (sized(name, "nano") for name in ("mytnano-modern", "mytnano"))
    assert modern.model.but(layers=1) == plain.model.but(layers=1, value_embeddings=True)
    assert modern.optim == plain.optim.but(table_lr=4.0, schedule="linear", final_lr=0.0)
    assert EARNED["optim"].items() <= SPEEDRUN["optim"].items()
    assert EARNED["model"].items() <= SPEEDRUN["model"].items()


def test_value_tables_and_two_tables_only_where_they_are_affordable():
    models = {size: sized("mytnano-modern", size).model for size in SIZES}
    assert [size for size, m in models.items() if m.tied] == ["gpt2"]
    assert [size for size, m in models.items() if not m.value_embeddings] == ["gpt2"]
    assert models["gpt2"].layers > models["nano"].layers


def test_batch_rule():
    assert batch_windows(1e5, 200) == 5  # the least that a CPU is quick with
    assert batch_windows(4e6, 200) == 20  # a thousand steps
    assert batch_windows(1e10, 1000) == round(190 * 100**0.383)  # Bergsma et al.


def test_rate_rule():
    def rate(recipe="mytnano", width=128, windows=1, train_bytes=2**20):
        config = sized(recipe, "nano").but(
            model={"width": width},
            data={"window_bytes": 1024},
            train={"batch_windows": windows, "train_bytes": train_bytes},
        )
        return learning_rate(recipe, config)

    tuned = rate()
    assert tuned == RATES["mytnano"]
    assert rate(windows=4) == pytest.approx(2 * tuned, rel=5e-3)
    assert rate(train_bytes=2**24) == pytest.approx(tuned / 2, rel=5e-3)
    assert rate(width=512) == pytest.approx(tuned / 2, rel=5e-3)


def test_rates_are_those_that_were_measured():
    found = json.loads((RESULTS / "tuning/recipes.json").read_text())
    assert {name: entry["rate"] for name, entry in found["recipes"].items()} == RATES
    assert all(entry["interior"] for entry in found["recipes"].values())


def test_recipes_are_designs_to_start_from():
    small = sized("mytnano-modern", "small")
    assert starting_design("mytnano-modern:small").model == small.model
    assert starting_design("mytnano-modern").model == sized("mytnano-modern", "nano").model
    assert starting_design("mytnano") == design("mytnano")  # the rung has the name
    assert starting_design("mytnano:nano").model == sized("mytnano", "nano").model
    with pytest.raises(UserError, match="'huge' is not a size; choose from nano, micro"):
        starting_design("mytnano-modern:huge")
    with pytest.raises(UserError, match=r"'mytnano-old' is not a design .* mytnano-modern:SIZE"):
        starting_design("mytnano-old")
    with pytest.raises(UserError, match="'old' is not a recipe; choose from mytnano, mytnano-mod"):
        sized("old", "nano")


def test_settings_by_name():
    assert assignments(["lr=1e-3", "model.width=64", "lr=2e-3"]) == {
        "optim.lr": "2e-3",
        "model.width": "64",
    }
    config = changed(RunConfig(), {"lr": "2e-3", "tied": "true", "heads": "2", "kv_heads": "2"})
    assert config.optim.lr == 2e-3 and config.model.tied and config.model.heads == 2
    with pytest.raises(UserError, match=r"'own_code' may be model\.own_code or optim\.own_code"):
        full_name("own_code")
    with pytest.raises(UserError, match="'ffnwidth' is not a setting; did you mean"):
        assignments(["ffnwidth=3"])
    with pytest.raises(UserError, match="'lr' is not NAME=VALUE"):
        assignments(["lr"])
    with pytest.raises(UserError, match="'n_layer' is not a setting; did you mean layers"):
        assignments(["n_layer=2"])
    with pytest.raises(UserError, match="the length of a run is --tokens"):
        assignments(["max_iters=2"])
    assert (known_as("lr"), known_as("batch_size"), known_as("x")) == ("lr", "batch_windows", None)
    with pytest.raises(UserError, match=r"^model: width 15 must be"):
        changed(RunConfig(), {"width": "15"})
    with pytest.raises(UserError, match=r"optim\.lr: Input should be"):
        changed(RunConfig(), {"lr": "fast"})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500k", 500_000),
        ("20M", 20_000_000),
        ("1.5G", 1_500_000_000),
        ("20B", 20 * 10**9),
        ("2T", 2 * 10**12),
        ("1.5m", 1_500_000),
        ("1,000", 1000),
        ("12,345,678", 12_345_678),
        ("1,234.5k", 1_234_500),
        ("1_000_000", 10**6),
        (".5M", 500_000),
        ("2e9", 2 * 10**9),
        ("7", 7),
    ],
)
def test_amounts(text, number):
    assert amount(text, "--tokens") == number


@pytest.mark.parametrize(
    "text",
    [
        "", "many", "-3", "0", "1.2.3M", "3 T", "B", "1e40",
        "1,5B", "1,5", "1,00", "1234,567", "1,000,00", ",5",
    ],
)  # fmt: skip
def test_no_amounts(text):
    with pytest.raises(UserError, match=r"--bytes .* is not a number from 1 to below 1e18"):
        amount(text, "--bytes")


def test_the_questions_about_recipes_are_about_the_recipes():
    arm = dict(read_spec("modern").arms["modern"])
    for name in ("joint", "kv_heads", "ffn_width"):  # to match parameters at that size
        del arm[name]
    given = changed(sized("mytnano", "nano"), arm)
    whole = RECIPES["mytnano-speedrun"](sized("mytnano", "nano"))
    assert given.optim == whole.optim
    assert given.model.but(ffn_width=8) == whole.model.but(ffn_width=8)
    earned = dict(read_spec("modern-earned").arms["earned"])
    del earned["joint"]
    given, modern = changed(sized("mytnano", "nano"), earned), sized("mytnano-modern", "nano")
    assert (given.model, given.optim) == (modern.model, modern.optim)
