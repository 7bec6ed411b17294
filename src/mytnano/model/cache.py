"""What a model keeps of the tokens that it has read, so that the next one costs one position.

Attention keeps keys and values (B, G, S, K), of the G key/value heads alone; a causal mean keeps a
running sum (B, D). Nothing else in a model looks at other positions.

Rows of different lengths share a batch: the first pass reads windows padded on the right, where
causal models never look, and every later token is written over that padding, row by row. So a row
computes what it would compute alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mytnano.config import ModelConfig
from mytnano.model.own import references

if TYPE_CHECKING:
    from mytnano.model.transformer import Tables


def why_no_cache(config: ModelConfig) -> str | None:
    """Why a model cannot be continued from a cache, as half a sentence; None if it can.

    A user's module is called with whole windows, and nothing says what it keeps of earlier
    positions.
    """
    own = references(config)
    return f"{', '.join(own)} reads whole windows" if own else None


class Cache:
    """The memory of one batch; it grows with every pass of the model that it is given to.

    Attributes:
        lengths: positions read of each row.
        slots: S, the most positions that a row may have.
    """

    def __init__(self, lengths: Sequence[int], slots: int) -> None:
        """``lengths`` are those of the rows of the first pass, whose windows are padded on the
        right to the longest."""
        self.lengths = list(lengths)
        self.slots = slots
        self._begun = False
        self._next: slice | Tensor | None = None
        self._kept: dict[nn.Module, list[Tensor]] = {}

    @property
    def started(self) -> bool:
        """Whether the first pass, which reads as a model without a cache does, is over."""
        return self._begun

    def tables(self, whole: Callable[[int, Tensor], Tables], T: int, like: Tensor) -> Tables:
        """The shared tables for the next T positions; ``whole`` makes those of a window."""
        if not self._begun:
            return whole(T, like)._replace(cache=self)
        all_of_them = whole(self.slots, like)
        where, end = self._where(T, like.device), max(self.lengths) + T
        mask = all_of_them.mask[..., where, :end]  # (T, S) or (H, T, S); ragged: (.., B, T, S)
        cos, sin = all_of_them.cos, all_of_them.sin
        if cos is not None and sin is not None:
            cos, sin = cos[where], sin[where]  # (T, K), ragged: (B, T, K)
        if not isinstance(where, slice):
            mask = mask.transpose(0, 1) if mask.ndim == 4 else mask[:, None]  # (B, H or 1, T, S)
            if cos is not None and sin is not None:
                cos, sin = cos[:, None], sin[:, None]  # (B, 1, T, K)
        return all_of_them._replace(mask=mask, cos=cos, sin=sin, cache=self)

    def places(self, T: int, device: torch.device) -> Tensor:
        """Positions of the next T tokens: (1, T) while all rows are equally long, or (B, T)."""
        if not self._begun:
            return torch.arange(T, device=device)[None]  # (1, T)
        where = self._where(T, device)
        if isinstance(where, slice):
            return torch.arange(where.start, where.stop, device=device)[None]  # (1, T)
        return where  # (B, T)

    def extend(self, layer: nn.Module, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep keys and values of the next T positions.

        Args:
            k, v: (B, G, T, K).

        Returns:
            Those of all positions so far, (B, G, S, K) each, S up to the longest row's end; in a
            shorter row those beyond its own are for the mask to hide.
        """
        T = k.shape[2]
        if not self._begun:
            shape = (*k.shape[:2], self.slots, k.shape[3])  # (B, G, S, K)
            self._kept[layer] = [x.new_zeros(shape) for x in (k, v)]
            for kept, x in zip(self._kept[layer], (k, v), strict=True):
                kept[:, :, :T] = x
            return k, v
        where, end = self._where(T, k.device), max(self.lengths) + T
        for kept, x in zip(self._kept[layer], (k, v), strict=True):
            if isinstance(where, slice):
                kept[:, :, where] = x
            else:
                rows = torch.arange(len(where), device=k.device)[:, None]  # (B, 1)
                kept[rows, :, where] = x.transpose(1, 2)  # (B, T, G, K)
        keys, values = self._kept[layer]
        return keys[:, :, :end], values[:, :, :end]

    def accumulate(self, layer: nn.Module, total: Tensor) -> Tensor:
        """Running sums of the next T positions (B, T, D), begun anew -> continued from before."""
        if self._begun:
            total = total + self._kept[layer][0][:, None]  # (B, T, D)
            last = total[:, -1]  # (B, D)
        else:
            ends = torch.tensor(self.lengths, device=total.device) - 1  # (B,)
            last = total[torch.arange(len(ends), device=total.device), ends]  # (B, D)
        self._kept[layer] = [last]
        return total

    def advance(self, T: int) -> None:
        """A pass over T positions is over."""
        if self._begun:
            self.lengths = [length + T for length in self.lengths]
        self._begun, self._next = True, None

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but these, between two passes."""
        self.lengths = [self.lengths[row] for row in rows]
        for layer, tensors in self._kept.items():
            chosen = torch.tensor(list(rows), device=tensors[0].device)  # (rows,)
            self._kept[layer] = [tensor[chosen] for tensor in tensors]

    def _where(self, T: int, device: torch.device) -> slice | Tensor:
        """Slots of this pass's T positions: one slice for all rows, or (B, T) where they differ."""
        if self._next is None:
            first, last = min(self.lengths), max(self.lengths)
            if first == last:
                self._next = slice(first, first + T)
            else:
                first_slots = torch.tensor(self.lengths)[:, None]  # (B, 1)
                self._next = (first_slots + torch.arange(T)).to(device)  # (B, T)
        return self._next


def kv_bytes_per_token(config: ModelConfig) -> int:
    """Bytes that attention keeps of a token in fp32: keys and values of every block."""
    return 2 * config.layers * config.kv_heads * (config.width // config.heads) * 4
