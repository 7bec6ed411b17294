"""The parts do what their formulas say, and only the parts that a design has exist."""

import re

import pytest
import torch
import torch.nn.functional as F
from model_toys import random_ids, rough_model, tiny_design

from mytnano.model.norms import EPS
from mytnano.model.transformer import ACTIVATIONS, GATED, Transformer

D, V, T, HIDDEN = 16, 11, 12, 24


def names(id):
    """Parameters of a design, the same for every block."""
    return {
        re.sub(r"blocks\.\d+\.", "", name) for name in Transformer(tiny_design(id)).state_dict()
    }


def test_a_part_that_is_off_has_no_parameters():
    tables = {"embedding.weight", "head.weight"}
    assert names("bigram") == names("average") == names("average-current") == tables
    assert names("average-positions") == tables | {"position.weight"}
    attention = {f"mixer.{m}.weight" for m in ("query", "key", "value", "output")}
    assert names("attention") == names("multi-head") == names("average-positions") | attention
    block = names("attention") | {"ffn.up.weight", "ffn.down.weight"}
    assert names("block") == names("stack") == names("residual") == block
    norms = {f"{place}_norm.{kind}" for place in ("mixer", "ffn") for kind in ("weight", "bias")}
    assert names("post-norm") == block | norms
    assert names("pre-norm") == block | norms | {"final_norm.weight", "final_norm.bias"}
    assert names("rope") == names("swiglu") - {"position.weight"}
    assert names("swiglu") == names("rmsnorm") | {"ffn.gate.weight"}


def test_bigram_is_two_tables():
    model = rough_model(tiny_design("bigram"))
    ids = random_ids(model.config, 2)
    expected = model.embedding.weight[ids] @ model.head.weight.T
    torch.testing.assert_close(model.logits(ids), expected)


def test_mean_is_the_mean_up_to_the_current_token():
    model = rough_model(tiny_design("average-positions"))
    ids = random_ids(model.config, 2)
    x = model.embedding.weight[ids] + model.position.weight
    states = model(ids)
    for t in range(T):
        torch.testing.assert_close(states[:, t], x[:, : t + 1].mean(1))
    plain = rough_model(tiny_design("average-current"))
    x = plain.embedding.weight[ids]
    expected = x[:, 4] + x[:, :5].mean(1)
    torch.testing.assert_close(plain(ids)[:, 4], expected)


def one_attention(block, x, heads, kv_heads):
    """Attention of one block spelled out with einsum, head by head, no RoPE."""
    mixer, K = block.mixer, D // heads
    B = x.shape[0]
    q = (x @ mixer.query.weight.T).view(B, T, heads, K)
    k = (x @ mixer.key.weight.T).view(B, T, kv_heads, K)
    v = (x @ mixer.value.weight.T).view(B, T, kv_heads, K)
    outputs = []
    for head in range(heads):
        group = head // (heads // kv_heads)
        scores = torch.einsum("btk,bsk->bts", q[:, :, head], k[:, :, group]) / K**0.5
        scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf"))
        outputs.append(scores.softmax(-1) @ v[:, :, group])
    return torch.cat(outputs, -1) @ mixer.output.weight.T


def feed_forward(block, x):
    return F.relu(x @ block.ffn.up.weight.T) @ block.ffn.down.weight.T


@pytest.mark.parametrize("kernel", ["explicit", "flash"])
@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("id", ["block", "residual", "post-norm", "pre-norm"])
def test_one_block_spelled_out(id, heads, kv_heads, kernel):
    config = tiny_design(id, layers=1, heads=heads, kv_heads=kv_heads, kernel=kernel)
    model = rough_model(config)
    ids, block = random_ids(config, 2), model.blocks[0]

    def norm(x, module):
        return F.layer_norm(x, (D,), module.weight, module.bias, EPS)

    def attend(x):
        return one_attention(block, x, heads, kv_heads)

    x = model.embedding.weight[ids] + model.position.weight
    if id == "block":
        x = feed_forward(block, attend(x))
    elif id == "residual":
        x = x + attend(x)
        x = x + feed_forward(block, x)
    elif id == "post-norm":
        x = norm(x + attend(x), block.mixer_norm)
        x = norm(x + feed_forward(block, x), block.ffn_norm)
    else:
        x = x + attend(norm(x, block.mixer_norm))
        x = x + feed_forward(block, norm(x, block.ffn_norm))
        x = norm(x, model.final_norm)
    torch.testing.assert_close(model(ids), x, rtol=1e-4, atol=1e-5)


def test_grouped_heads_are_full_heads_that_share_their_keys_and_values():
    grouped = rough_model(tiny_design("gqa"))
    full = rough_model(tiny_design("rope"))
    K, repeat = D // 4, 2
    state = grouped.state_dict()
    for name in state:
        if name.endswith(("key.weight", "value.weight")):
            heads = state[name].view(2, K, D)
            state[name] = heads.repeat_interleave(repeat, dim=0).reshape(D, D)
    full.load_state_dict(state)
    ids = random_ids(grouped.config, 2)
    torch.testing.assert_close(grouped(ids), full(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(ACTIVATIONS))
def test_feed_forward_kinds(kind):
    formulas = {
        "relu": F.relu, "gelu": F.gelu, "silu": F.silu, "relu2": lambda x: F.relu(x) ** 2,
        "glu": torch.sigmoid, "geglu": F.gelu, "swiglu": lambda x: x * torch.sigmoid(x),
    }  # fmt: skip
    ffn = rough_model(tiny_design("block", ffn=kind)).blocks[0].ffn
    x = torch.randn(2, 3, D, generator=torch.Generator().manual_seed(0))
    hidden = x @ ffn.up.weight.T
    if kind in GATED:
        hidden = formulas[kind](x @ ffn.gate.weight.T) * hidden
    else:
        assert ffn.gate is None
        hidden = formulas[kind](hidden)
    assert hidden.shape[-1] == HIDDEN
    torch.testing.assert_close(ffn(x), hidden @ ffn.down.weight.T)


def test_tied_head_is_the_embedding():
    model = rough_model(tiny_design("logged-init"))
    assert model.head.weight is model.embedding.weight
    assert "head.weight" not in dict(model.named_parameters())
    untied = Transformer(tiny_design("pre-norm"))
    own, other = (sum(p.numel() for p in m.parameters()) for m in (model, untied))
    assert other - own == V * D


def test_dropout_acts_in_training_only():
    config = tiny_design("pre-norm", dropout=0.5)
    model, ids = rough_model(config), random_ids(config, 1)
    expected = rough_model(config.but(dropout=0.0))(ids)
    assert torch.equal(model(ids), expected)
    model.train()
    assert not torch.equal(model(ids), expected)
    assert not torch.equal(model(ids), model(ids))


@pytest.mark.parametrize("id", ["average-positions", "post-norm", "mytnano"])
def test_bf16_stays_close_to_fp32(id):
    config = tiny_design(id, width=32)
    model, ids = rough_model(config), random_ids(config, 8)
    expected = model(ids)
    half = rough_model(config).to(torch.bfloat16)(ids)
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).norm() < 0.03 * expected.norm()


def test_windows_of_a_batch_do_not_touch_each_other():
    config = tiny_design("mytnano")
    model, ids = rough_model(config), random_ids(config, 4)
    alone = torch.cat([model(row[None]) for row in ids])
    torch.testing.assert_close(model(ids), alone, rtol=1e-5, atol=1e-5)
