"""Which designs are a standard architecture of ``transformers``, and their weights by its names.

No design of ours has biases in its matrices, and every difference that remains is exact: missing
gains are ones and missing biases zeros, a norm right after the embedding is computed into the
table, squared ReLU is a ReLU gate on its own input, and the grouped heads of a GPT-2 are repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mytnano.config import ModelConfig
from mytnano.errors import UserError
from mytnano.model.norms import EPS
from mytnano.model.transformer import Block, Transformer

GATES = {"swiglu": "silu", "geglu": "gelu", "glu": "sigmoid"}
SELF_GATES = {"relu2": "relu", "silu": "sigmoid"}
"""f(x) = g(x) x: a gated network whose gate and up matrices are equal."""

PLAIN = {"relu": "relu", "gelu": "gelu", "silu": "silu", "relu2": "relu2"}

ANY = ()
"""Every value of a setting."""

EVERYWHERE = {
    "mixer": ("attention",),
    "residual": (True,),
    "norm_place": ("pre",),
    "softcap": (0.0,),
    "x0_skip": (False,),
    "value_embeddings": (False,),
    "scaling": ("standard",),
}
"""What every target needs: setting -> the values that it can have, the nearest first."""


@dataclass(frozen=True)
class Target:
    """One architecture: what a design must be, and what it then is there.

    Attributes:
        name, model_type, class_name: for people, in ``config.json``, and in ``transformers``.
        needs: setting -> the values that it can have, besides :data:`EVERYWHERE`.
        settings: from the design and the id of the end-of-document, the rest of ``config.json``.
        weights: name -> tensor.
    """

    name: str
    model_type: str
    class_name: str
    needs: dict[str, tuple]
    settings: Callable[[ModelConfig, int], dict]
    weights: Callable[[Transformer], dict[str, Tensor]]

    def misfits(self, config: ModelConfig) -> dict[str, object]:
        """Setting -> the nearest value that would fit, of those that do not."""
        found = {
            name: values[0]
            for name, values in {**EVERYWHERE, **self.needs}.items()
            if values != ANY and getattr(config, name) not in values
        }
        return found | ({} if config.layers else {"layers": 1})


def find_target(config: ModelConfig) -> Target:
    """The architecture that a design is.

    Raises:
        UserError: there is none; names the parts, and the nearest design that has one.
    """
    fitting = [target for target in TARGETS if not target.misfits(config)]
    if fitting:
        return fitting[0]
    nearest = min(TARGETS, key=lambda target: len(target.misfits(config)))
    misfits = nearest.misfits(config)
    parts = ", ".join(f"{name}={word(getattr(config, name))}" for name in misfits)
    changes = " ".join(f"model.{name}={word(value)}" for name, value in misfits.items())
    raise UserError(
        f"no standard architecture has this design: {nearest.name}, the nearest, cannot have "
        f"{parts}; the nearest recipe that exports is this one with {changes}"
    )


def word(value: object) -> str:
    """A setting's value as it is written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def llama_settings(config: ModelConfig, eod: int) -> dict:
    """The part of ``config.json`` that Llama, Arcee and Qwen3 share."""
    rope = {"rope_type": "default", "rope_theta": config.rope_base}
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.ffn_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.width // config.heads,
        "hidden_act": (GATES | SELF_GATES)[config.ffn],
        "max_position_embeddings": config.context,
        "rms_norm_eps": EPS,
        "rope_parameters": rope,
        "rope_theta": config.rope_base,  # where versions before 5 look
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": is_tied(config),
        "bos_token_id": eod,
        "eos_token_id": eod,
    }


def arcee_settings(config: ModelConfig, eod: int) -> dict:
    """As Llama's, with a network that has no gate."""
    gated = config.but(ffn="swiglu")
    return llama_settings(gated, eod) | {"hidden_act": PLAIN[config.ffn]}


def qwen3_settings(config: ModelConfig, eod: int) -> dict:
    """As Llama's, without sliding windows."""
    settings = llama_settings(config, eod) | {"use_sliding_window": False}
    del settings["mlp_bias"]
    return settings


def nanochat_settings(config: ModelConfig, eod: int) -> dict:
    """As Llama's, with a cap on the logits and no gate."""
    settings = arcee_settings(config, eod)
    del settings["mlp_bias"], settings["head_dim"]
    cap = {"final_logit_softcapping": config.softcap or None}
    return settings | cap | {"tie_word_embeddings": config.tied}


def gpt2_settings(config: ModelConfig, eod: int) -> dict:
    """``config.json`` of a GPT-2."""
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.context,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.ffn_width,
        "activation_function": PLAIN[config.ffn],
        "layer_norm_epsilon": EPS,
        "resid_pdrop": config.dropout,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": is_tied(config),
        "bos_token_id": eod,
        "eos_token_id": eod,
    }


def is_tied(config: ModelConfig) -> bool:
    """Whether table and head are one there too: not if a norm was computed into the table."""
    return config.tied and not config.embedding_norm


def llama_weights(model: Transformer) -> dict[str, Tensor]:
    """Weights under the names of Llama, and of those that are like it."""
    named = {"model.embed_tokens.weight": table(model)}
    named["model.norm.weight"] = gain(model.final_norm, model)
    for i, block in enumerate(model.blocks):
        place = f"model.layers.{i}"
        for name in ("query", "key", "value", "output"):
            weight = getattr(block.mixer, name).weight
            named[f"{place}.self_attn.{name[0]}_proj.weight"] = weight
        named |= {f"{place}.mlp.{name}_proj.weight": w for name, w in feed_forward(block).items()}
        named[f"{place}.input_layernorm.weight"] = gain(block.mixer_norm, model)
        named[f"{place}.post_attention_layernorm.weight"] = gain(block.ffn_norm, model)
    return named | head(model, "lm_head.weight")


def arcee_weights(model: Transformer) -> dict[str, Tensor]:
    """As Llama's; the network has no gate, whatever its activation."""
    return {
        name: w for name, w in llama_weights(model).items() if not name.endswith("gate_proj.weight")
    }


def qwen3_weights(model: Transformer) -> dict[str, Tensor]:
    """As Llama's, and the gains of queries and keys, which ours do not have."""
    ones = torch.ones(model.config.width // model.config.heads)  # (K,)
    gains = {
        f"model.layers.{i}.self_attn.{name}_norm.weight": ones.clone()
        for i in range(model.config.layers)
        for name in "qk"
    }
    return llama_weights(model) | gains


def nanochat_weights(model: Transformer) -> dict[str, Tensor]:
    """No norm has a gain, and the table is normalised there too.

    NanoChat turns queries and keys the other way round, which is our turn with the two halves of
    each head exchanged.
    """
    config = model.config
    named = {"model.embed_tokens.weight": model.embedding.weight}
    for i, block in enumerate(model.blocks):
        attention, mixer = f"model.layers.{i}.self_attn", block.mixer
        named |= {
            f"{attention}.q_proj.weight": exchanged(mixer.query.weight, config.heads),
            f"{attention}.k_proj.weight": exchanged(mixer.key.weight, config.kv_heads),
            f"{attention}.v_proj.weight": mixer.value.weight,
            f"{attention}.o_proj.weight": mixer.output.weight,
            f"model.layers.{i}.mlp.fc1.weight": block.ffn.up.weight,
            f"model.layers.{i}.mlp.fc2.weight": block.ffn.down.weight,
        }
    return named if config.tied else {**named, "lm_head.weight": model.head.weight}


def exchanged(weight: Tensor, heads: int) -> Tensor:
    """Rows (H K, D) with the two halves of each head exchanged."""
    halves = weight.view(heads, 2, -1, weight.shape[1])  # (H, 2, K/2, D)
    return halves.flip(1).reshape(weight.shape)


def gpt2_weights(model: Transformer) -> dict[str, Tensor]:
    """Weights under the names of GPT-2, whose matrices are (in, out)."""
    config = model.config
    named = {
        "transformer.wte.weight": table(model),
        "transformer.wpe.weight": model.position.weight,
    }
    named |= norm("transformer.ln_f", model.final_norm, model)
    for i, block in enumerate(model.blocks):
        place = f"transformer.h.{i}"
        named |= norm(f"{place}.ln_1", block.mixer_norm, model)
        named |= norm(f"{place}.ln_2", block.ffn_norm, model)
        mixer = block.mixer
        parts = [
            mixer.query.weight,
            *(repeated(w.weight, config) for w in (mixer.key, mixer.value)),
        ]
        named |= transposed(f"{place}.attn.c_attn", torch.cat(parts))
        named |= transposed(f"{place}.attn.c_proj", mixer.output.weight)
        named |= transposed(f"{place}.mlp.c_fc", block.ffn.up.weight)
        named |= transposed(f"{place}.mlp.c_proj", block.ffn.down.weight)
    return named | head(model, "lm_head.weight")


def table(model: Transformer) -> Tensor:
    """The token table (V, D), with a norm right after it computed into it."""
    weight = model.embedding.weight  # (V, D)
    return weight if model.embedding_norm is None else model.embedding_norm(weight)


def head(model: Transformer, name: str) -> dict[str, Tensor]:
    """The head, if it is not the table."""
    return {} if is_tied(model.config) else {name: model.head.weight}


def feed_forward(block: Block) -> dict[str, Tensor]:
    """Up, down and gate; without a gate of its own the network's is its up matrix."""
    ffn = block.ffn
    gate = ffn.up if ffn.gate is None else ffn.gate
    return {"gate": gate.weight, "up": ffn.up.weight, "down": ffn.down.weight}


def gain(module: nn.Module, model: Transformer) -> Tensor:
    """A norm's gain (D,), ones if it has none."""
    return torch.ones(model.config.width) if module.weight is None else module.weight


def norm(name: str, module: nn.Module, model: Transformer) -> dict[str, Tensor]:
    """Gain and bias of a LayerNorm, (D,) each."""
    bias = torch.zeros(model.config.width) if module.bias is None else module.bias
    return {f"{name}.weight": gain(module, model), f"{name}.bias": bias}


def transposed(name: str, weight: Tensor) -> dict[str, Tensor]:
    """A matrix (out, in) as GPT-2 has it, (in, out) with a bias of zeros."""
    return {f"{name}.weight": weight.t(), f"{name}.bias": torch.zeros(len(weight))}


def repeated(weight: Tensor, config: ModelConfig) -> Tensor:
    """Rows of G key/value heads (G K, D) as those of H heads (H K, D)."""
    per_head = weight.view(config.kv_heads, -1, config.width)  # (G, K, D)
    return per_head.repeat_interleave(config.heads // config.kv_heads, dim=0).flatten(0, 1)


ROTARY = {"norm": ("rmsnorm",), "positions": ("rope",)}

TARGETS = (
    Target(
        "Llama",
        "llama",
        "LlamaForCausalLM",
        {**ROTARY, "qk_norm": (False,), "ffn": tuple(GATES)},
        llama_settings,
        llama_weights,
    ),
    Target(
        "Arcee",
        "arcee",
        "ArceeForCausalLM",
        {**ROTARY, "qk_norm": (False,), "ffn": tuple(PLAIN)},
        arcee_settings,
        arcee_weights,
    ),
    Target(
        "NanoChat",
        "nanochat",
        "NanoChatForCausalLM",
        {
            **ROTARY,
            "qk_norm": (True,),
            "norm_gain": (False,),
            "embedding_norm": (True,),
            "softcap": ANY,
            "ffn": ("relu2", *(name for name in PLAIN if name != "relu2")),
        },
        nanochat_settings,
        nanochat_weights,
    ),
    Target(
        "Qwen3",
        "qwen3",
        "Qwen3ForCausalLM",
        {**ROTARY, "qk_norm": (True,), "ffn": (*GATES, *SELF_GATES)},
        qwen3_settings,
        qwen3_weights,
    ),
    Target(
        "GPT-2",
        "gpt2",
        "GPT2LMHeadModel",
        {
            "norm": ("layernorm",),
            "positions": ("learned",),
            "qk_norm": (False,),
            "ffn": ("gelu", *(name for name in PLAIN if name != "gelu")),
        },
        gpt2_settings,
        gpt2_weights,
    ),
)
