"""One full optimizer step of each contestant: forward, backward, clipping, AdamW.

The peers run as their own training scripts run them. Every step trains on the same batch of random
ids, since speed does not depend on the text.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from mytnano.bench.shapes import Contestant, Shape
from mytnano.config import RunConfig
from mytnano.training.engine import Engine

LR = 1e-3
CLIP = 1.0
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1

Step = Callable[[], object]


def batch(shape: Shape, *members: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (B, T) each; for a fleet of so many ``members``, (K, B, T)."""
    generator = torch.Generator().manual_seed(0)
    size = (*members, shape.windows, shape.context + 1)
    ids = torch.randint(0, shape.vocabulary, size, generator=generator)  # (..., B, T+1)
    return ids[..., :-1].contiguous(), ids[..., 1:].contiguous()


def our_step(contestant: Contestant) -> Step:
    """A step of :class:`mytnano.training.engine.Engine`."""
    config = RunConfig(model=contestant.model).but(
        optim={"beta1": BETAS[0], "beta2": BETAS[1], "weight_decay": WEIGHT_DECAY},
        train={
            "precision": contestant.precision,
            "compile": contestant.compiled,
            "batch_windows": contestant.shape.windows,
        },
    )
    engine = Engine(config)
    x, y = batch(contestant.shape)

    def step() -> Tensor:
        engine.gradients(x, y)
        return engine.update(LR)

    return step


def nanogpt_module(path: Path):
    """nanoGPT's ``model.py`` as a module (Karpathy 2022, github.com/karpathy/nanoGPT)."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def nanogpt_step(contestant: Contestant, module) -> Step:
    """nanoGPT as its ``train.py`` runs it: its model, its optimizer, autocast round the forward."""
    shape = contestant.shape
    config = module.GPTConfig(
        block_size=shape.context, vocab_size=shape.vocabulary, n_layer=shape.layers,
        n_head=shape.heads, n_embd=shape.width, dropout=0.0, bias=False,
    )  # fmt: skip
    model = module.GPT(config)
    optimizer = model.configure_optimizers(WEIGHT_DECAY, LR, BETAS, "cpu")
    compiled = torch.compile(model) if contestant.compiled else model
    x, y = batch(shape)
    return peer_step(contestant, model, optimizer, lambda: compiled(x, y)[1])


def llama_step(contestant: Contestant) -> Step:
    """Hugging Face's LlamaForCausalLM with fused AdamW, its Trainer's default."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape, design = contestant.shape, contestant.model
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=design.ffn_width,
        num_hidden_layers=shape.layers, num_attention_heads=design.heads,
        num_key_value_heads=design.kv_heads, max_position_embeddings=shape.context,
        use_cache=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    if contestant.precision == "bf16":
        model = model.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )
    compiled = torch.compile(model) if contestant.compiled else model
    x, y = batch(shape)
    loss = lambda: compiled(input_ids=x, labels=y, shift_labels=y).loss
    return peer_step(contestant, model, optimizer, loss)


def peer_step(
    contestant: Contestant,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Tensor],
) -> Step:
    """The loop body that nanoGPT's ``train.py`` and Hugging Face's Trainer have in common."""
    autocast = contestant.precision == "autocast"

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
