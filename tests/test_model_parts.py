"""Parts that no rung has: each by its formula, alone and together, in the model and the engine."""

import math

import pytest
import torch
import torch.nn.functional as F
from loop_toys import batch, run_config, trained
from model_toys import PARTS, random_ids, rough_model, tiny_design, with_part

from mytnano.config import ModelConfig
from mytnano.measure.flops import forward_flops_per_token
from mytnano.measure.mechanism import normalised_entropy, probe
from mytnano.measure.status import _last_log_probabilities
from mytnano.model.init import initialise
from mytnano.model.norms import EPS
from mytnano.model.sampling import sample
from mytnano.model.transformer import Transformer, value_blocks
from mytnano.training import engine as engine_module
from mytnano.training.engine import Engine
from mytnano.training.outcome import count_parameters


def spelled_out(model, ids):
    """Logits (B, T, V) of a pre-norm or sandwich model, and each block's attention weights."""
    config, w = model.config, dict(model.named_parameters())
    D, H, G = config.width, config.heads, config.kv_heads
    K, (B, T) = D // H, ids.shape

    def norm(x, name):
        if config.norm == "layernorm":
            x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + EPS).sqrt()
        return x * w[name + ".weight"] if config.norm_gain else x

    def rotated(x):  # (B, T, H, K)
        half = K // 2
        angle = torch.arange(T)[:, None] * 10_000.0 ** (-torch.arange(half) / half)  # (T, K/2)
        a, b = x[..., :half], x[..., half:]
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    def attend(x, i):
        q, k, v = (
            (x @ w[f"blocks.{i}.mixer.{name}.weight"].T).view(B, T, -1, K)
            for name in ("query", "key", "value")
        )
        if config.value_embeddings and i in (2, 0):
            place = 0 if i == 0 else 1
            rows = w["value_embedding.weight"][ids][..., place * G * K : (place + 1) * G * K]
            v = v + w["value_scales"][place] * rows.view(B, T, G, K)
        if config.qk_norm:
            q, k = (x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() for x in (q, k))
        if config.positions == "rope":
            q, k = rotated(q), rotated(k)
        k, v = (x.repeat_interleave(H // G, dim=2) for x in (k, v))
        scores = torch.einsum("bthk,bshk->bhts", q, k) / math.sqrt(K)
        if config.positions == "alibi":
            back = torch.arange(T)[:, None] - torch.arange(T)
            scores = scores - torch.tensor([2**-2, 2**-4, 2**-6, 2**-8])[:, None, None] * back
        scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
        weights.append(scores.softmax(-1))
        y = torch.einsum("bhts,bshk->bthk", weights[-1], v).flatten(2)
        return y @ w[f"blocks.{i}.mixer.output.weight"].T

    def feed_forward(x, i):
        up, down = (w[f"blocks.{i}.ffn.{name}.weight"] for name in ("up", "down"))
        if config.ffn == "relu2":
            return F.relu(x @ up.T) ** 2 @ down.T
        return (F.silu(x @ w[f"blocks.{i}.ffn.gate.weight"].T) * (x @ up.T)) @ down.T

    weights = []
    x = w["embedding.weight"][ids]
    if config.embedding_norm:
        x = norm(x, "embedding_norm")
    x0 = x
    for i in range(config.layers):
        if config.x0_skip:
            x = w["x_scales"][i] * x + w["x0_scales"][i] * x0
        for name, function in (("mixer", attend), ("ffn", feed_forward)):
            y = function(norm(x, f"blocks.{i}.{name}_norm"), i)
            if config.norm_place == "sandwich":
                y = norm(y, f"blocks.{i}.{name}_post_norm")
            x = x + y
    logits = norm(x, "final_norm") @ w["head.weight"].T
    cap = config.softcap
    return (cap * torch.tanh(logits / cap) if cap else logits), weights


@pytest.mark.parametrize("kernel", ["explicit", "flash"])
@pytest.mark.parametrize("part", PARTS)
def test_a_model_with_the_part_spelled_out(part, kernel):
    config = with_part(part, kernel=kernel)
    model, ids = rough_model(config), random_ids(config, 2)
    if config.norm == "layernorm":  # no bias either
        assert not any(name.endswith("bias") for name, _ in model.named_parameters())
    expected, weights = spelled_out(model, ids)
    torch.testing.assert_close(model.logits(ids), expected, rtol=1e-4, atol=1e-5)
    entropies = [row["attention_entropy"] for row in probe(model, ids)]
    assert entropies == pytest.approx([normalised_entropy(each) for each in weights], rel=1e-3)


@pytest.mark.parametrize("part", PARTS)
def test_the_part_matters(part):
    config = with_part(part)
    plain = tiny_design("mytnano", layers=3)
    ids = random_ids(config, 2)
    assert not torch.allclose(
        rough_model(config).logits(ids), rough_model(plain).logits(ids), atol=1e-3
    )


def parameters(config):
    return {name: tuple(p.shape) for name, p in Transformer(config).named_parameters()}


def test_what_each_part_adds():
    plain = parameters(tiny_design("mytnano", layers=3))

    def added(part):
        return {n: s for n, s in parameters(with_part(part)).items() if n not in plain}

    assert added("qk-norm") == added("softcap") == {}
    assert added("embedding-norm") == {"embedding_norm.weight": (16,)}
    assert added("x0-skip") == {"x_scales": (3,), "x0_scales": (3,)}
    # two blocks of two key/value heads of four channels each
    assert added("value-embeddings") == {"value_embedding.weight": (11, 16), "value_scales": (2,)}
    assert len(added("sandwich")) == 6
    gains = {name for name in plain if "norm" in name}
    assert set(plain) - set(parameters(with_part("no-gain"))) == gains and len(gains) == 7
    for part in ("x0-skip", "value-embeddings", "embedding-norm"):
        bigram = PARTS[part] | {"layers": 0}
        extra = set(parameters(tiny_design("mytnano", **bigram))) - {
            "embedding.weight", "head.weight", "embedding_norm.weight", "x_scales", "x0_scales",
        }  # fmt: skip
        assert not extra


def test_value_tables_stand_in_every_second_block_the_last_included():
    for layers, expected in ((1, [0]), (2, [1]), (3, [0, 2]), (6, [1, 3, 5])):
        assert value_blocks(with_part("value-embeddings", layers=layers)) == expected
    total, rest = count_parameters(Transformer(with_part("value-embeddings")))
    plain_total, plain = count_parameters(Transformer(tiny_design("mytnano", layers=3)))
    assert total - plain_total == 11 * 16 + 2 and rest - plain == 2


def test_paths_start_as_they_should():
    config = with_part("all")
    model = Transformer(config)
    initialise(model, 0)
    assert model.x_scales.tolist() == [1, 1, 1] and model.x0_scales.tolist() == [0, 0, 0]
    assert model.value_scales.tolist() == [1, 1]
    other = Transformer(tiny_design("mytnano", layers=3))
    initialise(other, 0)
    with_skip = Transformer(with_part("x0-skip"))
    initialise(with_skip, 0)
    ids = random_ids(config, 2)
    assert torch.equal(with_skip(ids), other(ids))


BAD = [
    ({"mixer": "mean", "qk_norm": True}, "qk_norm acts inside attention"),
    ({"mixer": "mean", "positions": "alibi"}, "'alibi' acts inside attention"),
    ({"mixer": "mean", "positions": "rope"}, "'rope' acts inside attention"),
    ({"norm": "none", "embedding_norm": True}, "embedding_norm places the design's norm"),
    ({"norm": "none", "norm_place": "sandwich"}, "'sandwich' places the design's norm"),
    ({"mixer": "mean", "value_embeddings": True}, "value_embeddings acts inside attention"),
    ({"softcap": -1.0}, "greater than or equal to 0"),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_what_makes_no_sense_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        ModelConfig(**changes)


def test_parts_cost_no_matrix_products():
    plain = tiny_design("mytnano", layers=3)
    for part in set(PARTS) - {"all"}:
        assert forward_flops_per_token(with_part(part)) == forward_flops_per_token(plain), part


def test_logits_are_capped_everywhere():
    config = with_part("softcap")
    model, ids = rough_model(config), random_ids(config, 2)
    with torch.no_grad():
        model.head.weight *= 30
        logits = model.logits(ids)
        assert 4.5 < logits.abs().max() <= 5
        expected = logits[:, -1].log_softmax(-1)
        torch.testing.assert_close(_last_log_probabilities(model, ids), expected)
        likeliest = logits[0, -1].argmax()
    assert sample(model, ids[0].tolist(), 1, temperature=0) == [likeliest]


def with_part_in(precision, part):
    return run_config("mytnano", precision, {"layers": 3, **PARTS[part]}, lr=5e-3)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("part", ["softcap", "x0-skip", "value-embeddings", "all"])
def test_the_engines_gradients_are_those_of_the_mean_loss(monkeypatch, part, tied):
    config = with_part_in("fp32", part).but(model={"init": "gpt2", "tied": tied})
    engine, (x, y) = Engine(config), batch(config)
    monkeypatch.setattr(engine_module, "MICRO_TOKENS", 80)  # micro-batches add up
    loss = engine.gradients(x, y)
    other = Engine(config).model
    expected = F.cross_entropy(other.logits(x).flatten(0, 1), y.flatten())
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    for name, parameter in other.named_parameters():
        torch.testing.assert_close(
            engine.masters[name].grad, parameter.grad, rtol=1e-4, atol=1e-7, msg=name
        )
        assert parameter.grad.any(), name


@pytest.mark.parametrize("part", ["alibi", "all"])
def test_bf16_learns_what_fp32_learns(part):
    exact, rough = (trained(with_part_in(each, part), 16)[1] for each in ("fp32", "bf16"))
    assert exact[-1] < 0.9 * exact[0]
    assert rough == pytest.approx(exact, rel=0.05)


@pytest.mark.extras
@pytest.mark.skipif(not engine_module.can_compile(), reason="needs a C++ compiler")
def test_compiled_learns_the_same():
    config = with_part_in("fp32", "all")
    _, fast = trained(config.but(train={"compile": True}), 6)
    assert fast == pytest.approx(trained(config, 6)[1], rel=1e-4)
