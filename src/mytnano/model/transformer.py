"""One plain Transformer that covers every rung: read it top to bottom.

Shapes: B windows, T tokens, D width, H query heads, G key/value heads, K = D / H head size, V
vocabulary, F hidden width.

A block mixes positions, then transforms each one. Which parts exist is decided by
:class:`~mytnano.config.ModelConfig`; a part that is switched off has no parameters and runs no
code. Precision, compilation and parallelism are applied from outside.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mytnano.config import ModelConfig, is_own
from mytnano.model.attention import (
    alibi_slopes,
    explicit_attention,
    fused_attention,
    grouped_attention,
    groups_fused,
)
from mytnano.model.cache import Cache
from mytnano.model.norms import build_norm, rms_norm
from mytnano.model.own import OwnMixer, build_own
from mytnano.model.scaling import depth_ratio, query_factor, width_ratio


class Mean(nn.Module):
    """Causal mean of all positions up to the current one: a bag of words with equal weights."""

    def forward(self, x: Tensor, tables: Tables) -> Tensor:
        total = x.float().cumsum(1)  # (B, T, D)
        count = torch.arange(1, x.shape[1] + 1, device=x.device).unsqueeze(-1)  # (T, 1)
        if tables.cache is not None:
            count = 1 + tables.cache.places(x.shape[1], x.device).unsqueeze(-1)  # (B, T, 1)
            total = tables.cache.accumulate(self, total)  # (B, T, D)
        return (total / count).to(x.dtype)  # (B, T, D)


class Attention(nn.Module):
    """Causal softmax attention, key/value heads in groups (Vaswani 2017; Ainslie et al. 2023)."""

    may_group = True
    """Whether a GPU's kernel may get fewer key/value heads than query heads; not under vmap."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads
        self.head_size = config.width // config.heads
        self.flash = config.kernel == "flash"
        self.qk_norm = config.qk_norm
        self.query_factor = query_factor(config)
        kv_width = self.kv_heads * self.head_size
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key = nn.Linear(config.width, kv_width, bias=False)
        self.value = nn.Linear(config.width, kv_width, bias=False)
        self.output = nn.Linear(config.width, config.width, bias=False)

    def forward(self, x: Tensor, tables: Tables) -> Tensor:
        cache = tables.cache
        if cache is not None and cache.started:
            q, k, v = self.separate(x, tables)
            y = grouped_attention(q, *cache.extend(self, k, v), tables.mask)  # (B, H, T, K)
        else:
            # Where nothing is learned the rung's own kernel would only be slower.
            fused = self.flash or not torch.is_grad_enabled()
            attend = fused_attention if fused else explicit_attention
            grouped = self.flash and self.may_group and groups_fused(x, tables.mask, self.head_size)
            q, k, v = self.project(x, tables, repeated=not grouped)
            y = attend(q, k, v, tables.mask)  # (B, H, T, K)
        return self.output(y.transpose(1, 2).flatten(2))  # (B, T, D)

    def project(
        self, x: Tensor, tables: Tables, repeated: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, T, K): key/value heads are repeated.

        Those are (B, G, T, K) if they are not to be ``repeated``.
        """
        q, k, v = self.separate(x, tables)
        if tables.cache is not None:
            tables.cache.extend(self, k, v)
        if repeated and self.kv_heads < self.heads:
            k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)  # (B, H, T, K)
            v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)  # (B, H, T, K)
        return q, k, v

    def separate(self, x: Tensor, tables: Tables) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, K), keys and values (B, G, T, K): rotated.

        Queries and keys may be normalised head by head, without a gain (Henry et al. 2020; Dehghani
        et al. 2023), and the tokens' own vectors be added to the values (see :class:`Transformer`).
        """
        B, T, _ = x.shape
        q = self.query(x).view(B, T, self.heads, self.head_size).transpose(1, 2)  # (B, H, T, K)
        k = self.key(x).view(B, T, self.kv_heads, self.head_size).transpose(1, 2)  # (B, G, T, K)
        v = self.value(x).view(B, T, self.kv_heads, self.head_size).transpose(1, 2)  # (B, G, T, K)
        if tables.values is not None:
            rows = tables.values.view(B, T, self.kv_heads, self.head_size)  # (B, T, G, K)
            v = v + rows.transpose(1, 2)  # (B, G, T, K)
        if self.qk_norm:
            q, k = rms_norm(q), rms_norm(k)  # (B, H, T, K), (B, G, T, K)
        if tables.cos is not None:
            q, k = rotate(q, tables.cos, tables.sin), rotate(k, tables.cos, tables.sin)
        if self.query_factor != 1:
            q = q * self.query_factor  # (B, H, T, K)
        return q, k, v


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of x (B, H, T, K) (Su et al. 2021).

    Channel i is paired with i + K/2, as in the Llama weights that Hugging Face publishes.
    """
    swapped = x.roll(x.shape[-1] // 2, dims=-1)  # (B, H, T, K)
    return x * cos + swapped * sin


class FeedForward(nn.Module):
    """Two matrices with an activation between, or three with a gate (Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.ffn]
        self.up = nn.Linear(config.width, config.ffn_width, bias=False)
        gated = config.ffn in GATED
        self.gate = nn.Linear(config.width, config.ffn_width, bias=False) if gated else None
        self.down = nn.Linear(config.ffn_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(self.activation(self.up(x)))  # (B, T, F) -> (B, T, D)
        return self.down(self.activation(self.gate(x)) * self.up(x))  # (B, T, F) -> (B, T, D)


ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "relu2": lambda x: F.relu(x).square(),
    "glu": torch.sigmoid,
    "geglu": F.gelu,
    "swiglu": F.silu,
}
GATED = {"glu", "geglu", "swiglu"}


def build_mixer(config: ModelConfig) -> nn.Module:
    """Mean, attention, or a user's own."""
    if is_own(config.mixer):
        return OwnMixer(build_own(config.mixer, config))
    return Mean() if config.mixer == "mean" else Attention(config)


def build_ffn(config: ModelConfig) -> nn.Module | None:
    """A feed-forward network, ours or a user's own, or nothing."""
    if config.ffn == "none":
        return None
    return build_own(config.ffn, config) if is_own(config.ffn) else FeedForward(config)


class Block(nn.Module):
    """A mixer and a feed-forward network, each with the design's residual path and norm.

    The norm stands before a sub-layer, after the sum, or both before and after the sub-layer
    ("sandwich", Ding et al. 2021; Gemma 2).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.residual, self.norm_place = config.residual, config.norm_place
        self.dropout, self.branch = config.dropout, 1 / depth_ratio(config)
        self.mixer = build_mixer(config)
        self.mixer_norm = build_norm(config)
        self.ffn = build_ffn(config)
        self.ffn_norm = build_norm(config) if config.ffn != "none" else None
        sandwich = config.norm_place == "sandwich"
        self.mixer_post_norm = build_norm(config) if sandwich else None
        self.ffn_post_norm = build_norm(config) if sandwich and config.ffn != "none" else None

    def forward(self, x: Tensor, tables: Tables) -> Tensor:
        mix = lambda h: self.mixer(h, tables)
        x = self.sublayer(x, self.mixer_norm, mix, self.mixer_post_norm)  # (B, T, D)
        if self.ffn is not None:
            x = self.sublayer(x, self.ffn_norm, self.ffn, self.ffn_post_norm)  # (B, T, D)
        return x

    def sublayer(
        self, x: Tensor, norm: nn.Module | None, function, after: nn.Module | None
    ) -> Tensor:
        pre = norm is not None and self.norm_place != "post"
        y = function(norm(x) if pre else x)  # (B, T, D)
        if after is not None:
            y = after(y)  # (B, T, D)
        if self.dropout:
            y = F.dropout(y, self.dropout, self.training)
        if self.branch != 1:
            y = y * self.branch  # (B, T, D)
        if self.residual:
            y = x + y
        return norm(y) if norm is not None and not pre else y


class Tables(NamedTuple):
    """What blocks are given beside their input.

    All share the causal mask at one window length, with ALiBi's bias in it, and RoPE's cosines and
    sines; ``values`` (B, T, G K) is the block's own: what its value table has for each token.
    ``cache`` holds what was kept of earlier positions, when text is continued token by token.
    """

    mask: Tensor
    cos: Tensor | None
    sin: Tensor | None
    values: Tensor | None = None
    cache: Cache | None = None

    def first(self, T: int) -> Tables:
        """Views of what belongs to the first T positions."""
        cos, sin = (table if table is None else table[:T] for table in (self.cos, self.sin))
        return self._replace(mask=self.mask[..., :T, :T], cos=cos, sin=sin)


class Head(nn.Linear):
    """States (..., D) to logits (..., V), capped if the design says so (Gemma 2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.width, config.vocab_size, bias=False)
        self.softcap = config.softcap

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)  # (..., V)
        return self.softcap * torch.tanh(logits / self.softcap) if self.softcap else logits


class Transformer(nn.Module):
    """Token ids to hidden states; the head turns those into logits.

    ``forward`` returns the states that enter the head, so that the loss may form logits a chunk at
    a time (:mod:`mytnano.model.loss`); ``logits`` gives them whole.

    Two parts feed the tokens themselves to later blocks. ``x0_skip``: the input of block i is
    a_i x + b_i x0, x0 what enters the first block, a_i = 1 and b_i = 0 at the start
    (modded-nanogpt, nanochat). ``value_embeddings``: every second block, the last included, adds
    c_i times a learned vector of each token to its values, c_i = 1 at the start (Zhou et al. 2024
    add the first block's values; tables of their own with a learned scalar are modded-nanogpt's,
    and which blocks have one is nanochat's). The vectors of all blocks stand side by side in one
    table.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.output_factor = 1 / width_ratio(config)
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.position = (
            nn.Embedding(config.context, config.width) if config.positions == "learned" else None
        )
        self.own_position = (
            build_own(config.positions, config) if is_own(config.positions) else None
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        last_norm = config.norm_place != "post" and config.layers
        self.final_norm = build_norm(config) if last_norm else None
        self.head = Head(config)
        if config.tied:
            self.head.weight = self.embedding.weight
        self.embedding_norm = build_norm(config) if config.embedding_norm else None
        # Scalars of all blocks are the root's, so that blocks can be sharded and compiled alone.
        self.x_scales = nn.Parameter(torch.ones(config.layers)) if config.x0_skip else None  # (L,)
        self.x0_scales = nn.Parameter(torch.zeros(config.layers)) if config.x0_skip else None
        count, size = len(value_blocks(config)), config.width // config.heads * config.kv_heads
        self.value_embedding = nn.Embedding(config.vocab_size, count * size) if count else None
        self.value_scales = nn.Parameter(torch.ones(count)) if count else None  # (count,)
        self._tables: dict[tuple[torch.device, torch.dtype], Tables] = {}

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        return self.encode(*(table(ids) for table in self.lookups()), cache=cache)  # (B, T, D)

    def lookups(self) -> list[nn.Embedding]:
        """The tables whose rows for a window's tokens are the arguments of :meth:`encode`."""
        return [t for t in (self.embedding, self.value_embedding) if t is not None]

    def encode(
        self,
        x: Tensor,
        values: Tensor | None = None,
        cache: Cache | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Embedded tokens to the states that enter the head, (B, T, D).

        Args:
            x: (B, T, D). values: rows of the value table (B, T, blocks with one x G K).
            cache: the tokens continue what it has read.
            documents: (B, T) from :func:`documents_of`, to keep attention within each.
        """
        T = x.shape[1]
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)  # (B, T, D)
        if self.position is not None:
            here = slice(T) if cache is None else cache.places(T, x.device)
            x = x + self.position.weight[here]  # (B, T, D)
        if self.own_position is not None:
            x = self.own_position(x)  # (B, T, D)
        tables = self.tables(T, x) if cache is None else cache.tables(self.tables, T, x)
        x0, rows = x, self.value_rows(values)
        if documents is not None:
            tables = tables._replace(mask=apart(tables.mask, documents))
        for i, block in enumerate(self.blocks):
            if self.x_scales is not None:
                x = self.x_scales[i] * x + self.x0_scales[i] * x0  # (B, T, D)
            x = block(x, tables._replace(values=rows[i]) if i in rows else tables)  # (B, T, D)
        if cache is not None:
            cache.advance(T)
        if self.final_norm is not None:
            x = self.final_norm(x)  # (B, T, D)
        return x if self.output_factor == 1 else x * self.output_factor  # (B, T, D)

    def value_rows(self, values: Tensor | None) -> dict[int, Tensor]:
        """Block -> its scaled part (B, T, G K) of the rows (B, T, blocks with one x G K)."""
        if values is None:
            return {}
        which = value_blocks(self.config)
        parts = values.chunk(len(which), dim=-1)  # (B, T, G K) each
        return {block: self.value_scales[i] * parts[i] for i, block in enumerate(which)}

    def logits(self, ids: Tensor) -> Tensor:
        return self.head(self(ids))  # (B, T, V)

    def tables(self, T: int, like: Tensor) -> Tables:
        """The shared tables for windows of T tokens, cut from those of the longest window.

        Those are made once for each device and precision.
        """
        key = (like.device, like.dtype)
        if key not in self._tables or self._tables[key].mask.shape[-1] < T:
            self._tables[key] = build_tables(self.config, max(T, self.config.context), like)
        whole = self._tables[key]
        return whole if whole.mask.shape[-1] == T else whole.first(T)


def documents_of(ids: Tensor, end_of_document: int) -> Tensor:
    """Which document of its window each token is in: ids (B, T) to (B, T), from 0 or 1 upwards.

    The end-of-document before a document belongs to it, as the symbol that starts it.
    """
    return (ids == end_of_document).cumsum(1)


def apart(mask: Tensor, documents: Tensor) -> Tensor:
    """A mask (T, T) or (H, T, T), also shut between documents (B, T): (B, 1 or H, T, T)."""
    other = documents[:, None, :, None] != documents[:, None, None, :]  # (B, 1, T, T)
    return mask.masked_fill(other, -math.inf)  # (B, 1 or H, T, T)


TABLES = ("embedding.", "position.", "own_position.", "value_embedding.", "head.")
"""How the names of weights begin that belong to tokens or positions, not to a block."""


def is_hidden_matrix(name: str, weight: Tensor) -> bool:
    """Whether a weight is a matrix of a block, between activations: what Muon is made for."""
    return weight.ndim == 2 and not name.startswith(TABLES)


def value_blocks(config: ModelConfig) -> list[int]:
    """Blocks with a value table: every second one, the last included (nanochat)."""
    if not config.value_embeddings:
        return []
    return [i for i in range(config.layers) if (config.layers - 1 - i) % 2 == 0]


def build_tables(config: ModelConfig, T: int, like: Tensor) -> Tables:
    """Mask (T, T); for RoPE also cosines and signed sines (T, K) for :func:`rotate`.

    For ALiBi the mask is (H, T, T) and holds each head's bias.
    """
    if config.positions == "alibi":
        return Tables(alibi_mask(config.heads, T, like), None, None)
    mask = torch.full((T, T), -math.inf, device=like.device).triu(1).to(like.dtype)  # (T, T)
    if config.positions != "rope":
        return Tables(mask, None, None)
    half = config.width // config.heads // 2
    frequency = config.rope_base ** (-torch.arange(half, device=like.device) / half)  # (K/2,)
    angle = torch.outer(torch.arange(T, device=like.device), frequency)  # (T, K/2)
    cos, sin = angle.cos(), angle.sin()  # (T, K/2)
    return Tables(
        mask, torch.cat((cos, cos), -1).to(like.dtype), torch.cat((-sin, sin), -1).to(like.dtype)
    )


def alibi_mask(heads: int, T: int, like: Tensor) -> Tensor:
    """(H, T, T): -inf for the future, minus slope times distance for the past."""
    place = torch.arange(T, device=like.device)  # (T,)
    distance = (place[:, None] - place).float()  # (T, T)
    slopes = torch.tensor(alibi_slopes(heads), device=like.device)[:, None, None]  # (H, 1, 1)
    return (-slopes * distance).masked_fill(distance < 0, -math.inf).to(like.dtype)  # (H, T, T)
