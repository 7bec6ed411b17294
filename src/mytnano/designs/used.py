"""Settings that act only beside another one, such as the base of the frequencies beside RoPE."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.model.own import references

ACT_BESIDE: dict[str, tuple[str, Callable[[RunConfig], bool]]] = {
    "model.rope_base": (
        "positions=rope",
        lambda run: run.model.positions == "rope" or bool(references(run.model)),
    ),
    "model.base_width": (
        "scaling=mup or scaling=completep",
        lambda run: run.model.scaling != "standard",
    ),
    "model.base_layers": ("scaling=completep", lambda run: run.model.scaling == "completep"),
    "optim.momentum": ("optimizer=muon", lambda run: run.optim.optimizer == "muon"),
    "optim.final_lr": ("a schedule that decays", lambda run: run.optim.schedule != "constant"),
    "optim.decay": ("schedule=wsd", lambda run: run.optim.schedule == "wsd"),
}
"""Full name -> beside what it acts, and whether it does in a run."""


def check_used(config: RunConfig, named: Iterable[str]) -> None:
    """Refuse a setting that was named for a run in which it changes nothing.

    Raises:
        UserError: it acts only beside another one.
    """
    for name in named:
        beside, acts = ACT_BESIDE.get(name, ("", lambda run: True))
        if not acts(config):
            raise UserError(f"{name} acts only with {beside}: add that, or leave {name} out")
