"""The curve on TensorBoard, Weights & Biases or trackio while it is drawn.

Each is a :class:`~mytnano.training.care.Recorder` of a few lines, made only when it is asked for;
none is needed, as ``metrics.jsonl`` holds the same numbers. One that fails is dropped, and the run
goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mytnano.errors import UserError, brief
from mytnano.training.care import Recorder

LOGS = "logs"
"""Folder of TensorBoard's and W&B's files inside a run folder."""

PROJECT = "mytnano"


def numbers(point: Mapping[str, Any]) -> dict[str, float]:
    """What of a point can be drawn; the step is its place."""
    return {name: value for name, value in point.items() if value is not None and name != "step"}


def scores(result: Mapping[str, Any] | None) -> dict[str, float]:
    """The final scores of a result."""
    names = ("test_bpb", "validation_bpb", "test_loss", "test_accuracy", "params", "flops")
    return {n: result[n] for n in names if result.get(n) is not None} if result else {}


class TensorBoard:
    """Event files in ``logs/``: ``tensorboard --logdir RUN``."""

    def __init__(self, folder: Path, name: str, config: dict, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Of a killed run, what it wrote after its last checkpoint comes again.
        self._writer = SummaryWriter(str(folder / LOGS), purge_step=step + 1 if step else None)

    def point(self, point: Mapping[str, Any]) -> None:
        for name, value in numbers(point).items():
            self._writer.add_scalar(name, value, point["step"])

    def sample(self, step: int, prompt: str, text: str) -> None:
        self._writer.add_text(prompt.strip() or "sample", prompt + text, step)

    def close(self, result: Mapping[str, Any] | None) -> None:
        for name, value in scores(result).items():
            self._writer.add_scalar(f"final/{name}", value)
        self._writer.close()


class Wandb:
    """Weights & Biases; without an account or a network offline, under ``logs/wandb``."""

    def __init__(self, folder: Path, name: str, config: dict, step: int) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")  # the live line has the terminal
        import wandb

        mode = os.environ.get("WANDB_MODE") or ("online" if _has_key(wandb) else "offline")
        (folder / LOGS).mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            id=name,
            resume="allow",
            dir=str(folder / LOGS),
            config=config,
            mode=mode,
        )

    def point(self, point: Mapping[str, Any]) -> None:
        self._run.log(numbers(point), step=point["step"])

    def sample(self, step: int, prompt: str, text: str) -> None:
        self._run.log({f"sample/{prompt.strip()}": prompt + text}, step=step)

    def close(self, result: Mapping[str, Any] | None) -> None:
        self._run.summary.update(scores(result))
        self._run.finish()


class Trackio:
    """trackio's local database: ``trackio show --project mytnano``; TRACKIO_DIR moves it."""

    def __init__(self, folder: Path, name: str, config: dict, step: int) -> None:
        import trackio

        self._library = trackio
        trackio.init(project=PROJECT, name=name, config=config, resume="allow", embed=False)

    def point(self, point: Mapping[str, Any]) -> None:
        self._library.log(numbers(point), step=point["step"])

    def sample(self, step: int, prompt: str, text: str) -> None:
        pass

    def close(self, result: Mapping[str, Any] | None) -> None:
        if final := scores(result):
            self._library.log({f"final/{name}": value for name, value in final.items()})
        self._library.finish()


KINDS: dict[str, type[TensorBoard | Wandb | Trackio]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}


class Guarded:
    """A recorder that never costs the run: when it fails it is dropped, and that is said."""

    def __init__(self, name: str, recorder: Recorder, say: Callable[[str], None]) -> None:
        self._name, self._recorder, self._say = name, recorder, say
        self._failed = False

    def point(self, point: Mapping[str, Any]) -> None:
        self._call("point", point)

    def sample(self, step: int, prompt: str, text: str) -> None:
        self._call("sample", step, prompt, text)

    def close(self, result: Mapping[str, Any] | None) -> None:
        self._call("close", result)

    def _call(self, method: str, *arguments: Any) -> None:
        if self._failed:
            return
        try:
            getattr(self._recorder, method)(*arguments)
        except Exception as error:
            self._failed = True
            self._say(f"{self._name} failed ({brief(error)}); the run goes on")


def open_recorder(
    kind: str, folder: Path, name: str, config: dict, step: int, say: Callable[[str], None]
) -> Recorder:
    """The recorder of a name in :data:`KINDS`.

    Args:
        folder: the run folder. name: of the run. config: shown beside the curve.
        step: steps that a checkpoint already holds.
        say: gets a sentence if it fails later.

    Raises:
        UserError: its package is missing, or it cannot be started.
    """
    try:
        return Guarded(kind, KINDS[kind](folder, name, config, step), say)
    except ImportError as error:
        raise UserError(  # without the constraints, which trackio contradicts
            f"--log {kind} needs the package {error.name}: run "
            f'`.venv/bin/pip install -e ".[{kind}]"`'
        ) from None
    except Exception as error:
        raise UserError(
            f"{kind} cannot be started ({brief(error)}): fix that, or leave --log away, as "
            "metrics.jsonl holds the same numbers"
        ) from None


def _has_key(wandb: Any) -> bool:
    try:
        return bool(wandb.Api().api_key)
    except Exception:  # without a key it raises one of several classes
        return False
