"""A model as it is when it is measured: without dropout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within; afterwards the mode that it had, also after an error."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
