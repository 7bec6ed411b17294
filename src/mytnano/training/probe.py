"""One step seen from inside: activations, gradients and updates of every block."""

from __future__ import annotations

from torch import Tensor

from mytnano.measure import mechanism
from mytnano.model.transformer import documents_of
from mytnano.training.engine import Engine

WINDOWS = 8
"""Windows of the batch on which activations are measured."""


class Probe:
    """Made before a step's gradients, asked for :meth:`gradients` after them, then :meth:`update`.

    Args:
        engine: about to make the step.
        x: (B, T) inputs of the step.
    """

    def __init__(self, engine: Engine, x: Tensor) -> None:
        self._engine = engine
        ids, data = x[:WINDOWS], engine.config.data
        documents = None if data.cross_documents else documents_of(ids, data.end_of_document)
        model = engine.exact_model()
        self._blocks: list[dict] = (
            [{} for _ in engine.model.blocks]  # of ranks, one measures for all
            if model is None
            else mechanism.probe(model, ids, documents)
        )

    def gradients(self) -> None:
        """Measure gradients and weights before the update."""
        masters = self._engine.masters
        gradients = ((name, p.grad) for name, p in masters.items())
        self._gradient_norms = mechanism.block_norms(self._engine.model, gradients)
        norm = masters["embedding.weight"].grad.float().norm()
        self._embedding_norm = mechanism.gathered(norm)
        self._before = {
            name: p.detach().clone() for name, p in masters.items() if name.startswith("blocks.")
        }

    def update(self) -> dict:
        """All that was measured, after the update: ``blocks`` and ``embedding_gradient_norm``."""
        engine = self._engine
        masters, before = engine.masters, self._before
        # One difference at a time, or they would take as much memory as the weights.
        updates = ((name, masters[name].detach() - weight) for name, weight in before.items())
        update_norms = mechanism.block_norms(engine.model, updates)
        weight_norms = mechanism.block_norms(engine.model, before.items())
        for block, gradient, update, weight in zip(
            self._blocks, self._gradient_norms, update_norms, weight_norms, strict=True
        ):
            block |= {
                "gradient_norm": gradient,
                "update_ratio": update / weight if weight else None,
            }
        return {"blocks": self._blocks, "embedding_gradient_norm": self._embedding_norm}
