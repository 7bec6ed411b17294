"""The recipes of one billion parameters, counted on the meta device."""

import pytest
import torch
from model_toys import words

from mytnano.config import DataConfig, RunConfig
from mytnano.designs.scale import SCALE
from mytnano.model.transformer import Transformer
from mytnano.training.text import prepare, resolve

PARAMETERS = {
    "mytllm-1b": 1_143_396_864,
    "mytllm-1b-modern": 1_098_907_684,
    "mytllm-tiny": 334_752,
}


@pytest.mark.parametrize("name", SCALE)
def test_parameters_are_those_that_are_promised(name):
    with torch.device("meta"):
        model = Transformer(SCALE[name].model)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert not [n for n, _ in model.named_parameters() if n.endswith("bias")]


def test_the_billion_is_the_successors_shape():
    model = SCALE["mytllm-1b"].model
    assert (model.vocab_size, model.width, model.ffn_width) == (100_352, 1536, 4224)
    assert model.layers == 39
    assert (model.heads, model.kv_heads, model.context, model.tied) == (32, 8, 1536, True)
    assert (model.ffn, model.norm, model.norm_place) == ("swiglu", "rmsnorm", "pre")


def test_the_tiny_one_differs_in_sizes_alone():
    sizes = {"vocab_size", "context", "width", "layers", "heads", "kv_heads", "ffn_width"}
    large, tiny = (SCALE[name].model.model_dump() for name in ("mytllm-1b", "mytllm-tiny"))
    assert {name for name in large if large[name] != tiny[name]} == sizes
    assert large["ffn_width"] / large["width"] == tiny["ffn_width"] / tiny["width"]
    assert large["heads"] // large["kv_heads"] == tiny["heads"] // tiny["kv_heads"]


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_eight_devices_share_every_batch_evenly(ranks):
    for config in SCALE.values():
        assert config.train.batch_windows % ranks == 0


def test_a_vocabulary_is_padded_with_ids_that_no_text_has(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(b"\n".join(words(8, 4000)))
    data = DataConfig(corpus=str(corpus), split="tail:0.2", tokenizer="byte", vocab_multiple=128)
    config = resolve(RunConfig().but(data=data.model_dump()), tmp_path / "cache")
    assert config.model.vocab_size == 384
    assert prepare(config.data, tmp_path / "cache").tokenizer.vocab_size == 257
