"""``mytnano export --format gguf``: a run as one file for llama.cpp and its relatives.

Written in fp32 by llama.cpp's own ``gguf`` package. Its ``llama`` and ``qwen3`` are what our Llama
and Qwen3 with SwiGLU are, and its GPT-2 pre-tokenizer is what our trained BPE uses.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from mytnano.config import ModelConfig
from mytnano.errors import UserError, needs
from mytnano.files import atomic_file
from mytnano.inference.load import LoadedRun
from mytnano.interop.architectures import Target, find_target, is_tied
from mytnano.interop.huggingface import exported_weights
from mytnano.interop.tokenizer_json import library_tokenizer
from mytnano.model.norms import EPS
from mytnano.run_files import TOKENIZER

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""Names of ``transformers`` inside a block -> those of llama.cpp."""

OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}

PRE_TOKENIZER = "gpt-2"
"""llama.cpp's name of the pre-tokenizer that our BPE is trained with."""


def export_gguf(run: LoadedRun, out: Path) -> list[str]:
    """Write one file.

    Returns:
        Sentences to print.

    Raises:
        UserError: llama.cpp has no such architecture or vocabulary, the file is there already, or
            the ``gguf`` package is not installed.
    """
    target = find_target(run.config.model)
    check(run, target)
    if importlib.util.find_spec("gguf") is None:
        raise needs("this", "gguf", "gguf")
    if out.exists():
        raise UserError(f"'{out}' is there already: give another name")
    config = run.config.model
    with atomic_file(out) as temporary:
        write(temporary, run, target)
    notes = [f"written as a {target.model_type} of llama.cpp, in fp32, to {out}"]
    if padding := config.vocab_size - run.tokenizer.vocab_size:
        notes.append(
            f"its last {padding} ids are padding, named [PAD..], which no text has: llama.cpp may "
            "write one where the model has not learned that"
        )
    if target.model_type == "qwen3" and config.width // config.heads != 128:
        notes.append(
            "transformers ignores this file's head size and takes 128: give it "
            f"Qwen3Config(..., head_dim={config.width // config.heads}) as config="
        )
    return notes


def check(run: LoadedRun, target: Target) -> None:
    """Raise UserError for what llama.cpp does not have, with the part named."""
    ffn, vocabulary = run.config.model.ffn, run.tokenizer.name
    if target.model_type not in ("llama", "qwen3") or ffn != "swiglu":
        raise UserError(
            f"this design is a {target.name} with ffn={ffn}, which llama.cpp computes otherwise or "
            "not at all: --format hf exports it, and for gguf the nearest recipe is rmsnorm with "
            "model.positions=rope model.ffn=swiglu"
        )
    if not vocabulary.startswith("bpe:"):
        raise UserError(
            f"no pre-tokenizer of llama.cpp is known to cut text as {vocabulary} does: --format hf "
            "exports it, and for gguf train with data.tokenizer=bpe:SIZE"
        )


def write(path: Path, run: LoadedRun, target: Target) -> None:
    """Write all fields and tensors."""
    import gguf

    writer = gguf.GGUFWriter(path, target.model_type)
    write_shape(writer, run.config.model, run.name)
    write_vocabulary(writer, gguf.TokenType, run)
    for name, weight in gguf_weights(run, target).items():
        writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_shape(writer: Any, config: ModelConfig, name: str) -> None:
    """The sizes of the model."""
    head_size = config.width // config.heads
    writer.add_name(name)
    writer.add_file_type(0)  # all fp32
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.ffn_width)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_rope_dimension_count(head_size)


def write_vocabulary(writer: Any, kinds: Any, run: LoadedRun) -> None:
    """Tokens in id order, merges, and the end-of-document before every text.

    Every row of the table needs a token: padding gets the names that llama.cpp's own converter
    gives it.
    """
    library = library_tokenizer(run.tokenizer, run.folder / TOKENIZER)
    ids = library.get_vocab(with_added_tokens=True)
    end = run.tokenizer.eod_id
    padding = range(end + 1, run.config.model.vocab_size)
    tokens = [*sorted(ids, key=lambda token: ids[token]), *(f"[PAD{id}]" for id in padding)]
    types = [kinds.CONTROL if id == end else kinds.NORMAL for id in range(end + 1)]
    merges = json.loads(library.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types(types + [kinds.UNUSED for _ in padding])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(True)


def gguf_weights(run: LoadedRun, target: Target) -> dict[str, Tensor]:
    """Name -> fp32 tensor; a tied head is left out, as llama.cpp then takes the table."""
    config = run.config.model
    named = {}
    for name, weight in exported_weights(run, target).items():
        if name in OUTSIDE:
            named[OUTSIDE[name]] = weight
            continue
        _, _, block, inside = name.removesuffix(".weight").split(".", 3)
        if target.model_type == "llama" and inside in ("self_attn.q_proj", "self_attn.k_proj"):
            heads = config.heads if inside.endswith("q_proj") else config.kv_heads
            weight = interleaved(weight, heads)
        named[f"blk.{block}.{NAMES[inside]}.weight"] = weight
    assert is_tied(config) or "output.weight" in named
    return named


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows (H K, D) reordered so that channel i of a head, which is rotated with i + K/2, is next
    to it: llama.cpp's Llama rotates neighbours, as Meta's does; its Qwen3 does not."""
    halves = weight.view(heads, 2, -1, weight.shape[1])  # (H, 2, K/2, D)
    return halves.transpose(1, 2).reshape(weight.shape).contiguous()  # (H K, D)
