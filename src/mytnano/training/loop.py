"""The training loop: the only one. Every rung, ablation and recipe goes through :func:`train`."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mytnano.config import OptimConfig, RunConfig
from mytnano.errors import UserError
from mytnano.measure.evaluate import score
from mytnano.model.init import stream_seed
from mytnano.training import memory
from mytnano.training.care import Care, OnProgress, Progress, unseen
from mytnano.training.checkpoint import load_checkpoint, save_checkpoint
from mytnano.training.engine import Engine
from mytnano.training.files import write_curve, write_run
from mytnano.training.guard import Guard
from mytnano.training.outcome import continued, describe
from mytnano.training.probe import Probe
from mytnano.training.schedule import learning_rate
from mytnano.training.text import Text, windows_of
from mytnano.training.transfer import on_device

CHECKPOINT_SECONDS = 60.0
"""A run shorter than this is simply run again after a crash, if its :class:`Care` says no other."""

SHOW_SECONDS = 0.5

SAMPLE_MOMENTS = 4
"""Equal parts of the run after each of which the model continues the prompts of its ``Care``."""

SAMPLE_TOKENS = 48


def train(
    config: RunConfig,
    text: Text,
    folder: Path,
    on_progress: OnProgress = unseen,
    labels: dict | None = None,
    care: Care = Care(),  # noqa: B008 - frozen
) -> dict:
    """Train one resolved config to its end, measure it, and write the files of the run.

    Continues from the folder's checkpoint if there is one of this config. Same config, same
    numbers: on one CPU and number of threads bit for bit, interrupted or not. The checkpoints stay:
    whoever seals the folder drops them, and a kill before that costs no step.

    Args:
        config: resolved by :func:`mytnano.training.text.resolve`.
        text: from :func:`mytnano.training.text.prepare`.
        folder: the run folder.
        on_progress: called about twice a second.
        labels: what the caller wants in the result besides, such as the rung.
        care: how the run is looked after while it goes on.

    Returns:
        The result; see :mod:`mytnano.training.outcome`.

    Raises:
        UserError: the text is too short for a window, the disk is full, or step after step had to
            be skipped (``optim.spike``); what was learned is in the checkpoint.
        KeyboardInterrupt: ``care`` said to stop; the checkpoint is of the last step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(config, text, folder, on_progress, care)
    result = None
    try:
        care.started(run.step)
        run.steps()
        care.trained()
        result = run.finish(labels or {})
    finally:
        for recorder in care.recorders:
            recorder.close(result)
    return result


class Run:
    """One run's state between steps: engine, data order, and what was measured so far.

    ``engine`` is made from the config, unless the caller brings one: a member of a fleet
    (:mod:`mytnano.training.fleet`) computes together with others and has the same interface.
    """

    def __init__(
        self,
        config: RunConfig,
        text: Text,
        folder: Path,
        on_progress: OnProgress,
        care: Care = Care(),  # noqa: B008 - frozen
        engine: Engine | None = None,
    ) -> None:
        if engine is None:
            memory.reset_peak(config.train.device)
        self.config, self.text, self.folder, self.on_progress = config, text, folder, on_progress
        self.care = care
        self.engine = engine or self._engine()
        train, self.windows = config.train, windows_of(config, text)
        self.total = config.steps
        points = min(self.total, care.log_points)
        self.log_at = set(np.unique(np.linspace(0, self.total - 1, points).astype(int)).tolist())
        self.validate_at = evenly(self.total, train.evaluations)
        self.sample_at = evenly(self.total, SAMPLE_MOMENTS) if care.prompts else set()
        end = last_update(config.optim, self.total)
        self.probe_at = {round(self.total / 10): "10%", 0: "init", end: "end"}
        self.step, self.history = self._load() or (
            0,
            {
                "points": [],
                "mechanism": [],
                "seconds": 0.0,
                "train_seconds": 0.0,
                "diverged": False,
            },
        )
        if points := self.history["points"]:  # else every window so far would be looked up again
            self.windows.remember(points[-1]["step"], points[-1]["bytes"])
        pending = self.history.pop("pending", [])
        self.losses = [torch.tensor(loss, device=train.device) for loss in pending]
        spike = config.optim.spike
        self.guard = Guard(spike, self.history.get("guard")) if spike else None
        self.started = time.perf_counter() - self.history["seconds"]
        self.shown = self.saved = time.perf_counter()

    def steps(self) -> None:
        """Train until the last step, or until the loss is no longer a number."""
        self.engine.model.train()
        while self.running:
            self._advance()
            self.look_after()

    def _advance(self) -> None:
        self.optimise()
        self.record()

    @property
    def running(self) -> bool:
        """Whether there is another step to make."""
        return self.step < self.total and not self.history["diverged"]

    @property
    def due(self) -> bool:
        """Whether this step has a place on the curve."""
        return self.step in self.log_at or self.step in self.validate_at

    def optimise(self) -> None:
        """Make one optimizer step."""
        begun = time.perf_counter()
        self.lr = learning_rate(self.config.optim, self.step, self.total)
        probed = self.step in self.probe_at
        loss, self.norm = self._probed_step(self.lr) if probed else self._step(self.lr)
        if self.norm is not None:  # or the step was skipped
            self.losses.append(loss)
        self.mean_loss: float | None = None
        if self.losses and self.due:  # waits for the device, so it belongs to the step's time
            self.mean_loss = torch.stack(self.losses).mean().item()
            self.losses.clear()
        self.history["train_seconds"] += time.perf_counter() - begun

    def record(self) -> None:
        """The step's place on the curve, and the samples that are due after it."""
        if self.due:
            self._log(self.mean_loss, self.norm, self.lr)
        if self.step in self.sample_at:
            self._sample()
        self.step += 1

    def look_after(self) -> None:
        """Show and save now and then; raise what ends a run that is to stop."""
        every = self.care.checkpoint_seconds
        every = CHECKPOINT_SECONDS if every is None else every
        now = time.perf_counter()
        if now - self.shown > SHOW_SECONDS and self.history["points"]:
            self.shown = now
            self._show()
        stopping = self.care.stopping() or (self.guard is not None and self.guard.exhausted)
        last = self.step == self.total
        stopping, due = self._agreed(stopping, now - self.saved > every)
        if stopping or (due and not last) or (last and self.care.save_at_end):
            self.save()
            self.saved = time.perf_counter()
        if stopping:
            raise self._stopped()

    def save(self) -> None:
        """Write a checkpoint from which the run continues with the next step."""
        history = self.history
        history["seconds"] = time.perf_counter() - self.started
        pending = {"pending": [loss.item() for loss in self.losses]}
        guard = {"guard": self.guard.state} if self.guard else {}
        note = {**history, **pending, **guard}
        self._save(note)

    def _stopped(self) -> BaseException:
        if self.guard is None or not self.guard.exhausted:
            return KeyboardInterrupt()
        return UserError(
            f"stopped after step {self.step:,}: {self.guard.state['in_a_row']} steps in a row had "
            "a loss that is no number or far above the last ones, and were skipped; the state is "
            f"saved in {self.folder}, where the same command goes on, but a lower learning rate "
            f"than lr={self.config.optim.lr:g} in another folder is likelier to help"
        )

    def finish(self, labels: dict) -> dict:
        """Measure the trained model and write the run's files; its checkpoints stay."""
        config, history, engine = self.config, self.history, self.engine
        peak = memory.peak_bytes(config.train.device)  # of training, not of what measures it
        with engine.averaged():
            result = labels | describe(config, engine, self.text, self.windows, history, self.step)
            if self.guard is not None:
                result["skipped_steps"] = self.guard.state["skipped"]
            result["seconds"] = time.perf_counter() - self.started
            result["peak_memory_bytes"] = peak
            write_run(self.folder, config, engine, self.text.tokenizer, history, result)
        return result

    # What ranks that train one model together do in their own way; see mytnano.distributed.run.

    def _engine(self) -> Engine:
        return Engine(self.config)

    def _load(self) -> tuple[int, dict] | None:
        return load_checkpoint(self.folder, self.engine, self.config.hash, self.care.say)

    def _save(self, history: dict) -> None:
        save_checkpoint(self.folder, self.engine, self.step, self.config.hash, history)
        write_curve(self.folder, history)

    def _agreed(self, *decisions: bool) -> tuple[bool, ...]:
        """Decisions that depend on the clock or the user, and so may differ between ranks."""
        return decisions

    def _read(self) -> tuple[int, int]:
        """Tokens predicted up to this step's end, and the bytes of text that they spell."""
        return self.windows.tokens_and_bytes(self.step + 1)

    def _probed(self, x: Tensor) -> Tensor:
        """What to probe of a whole batch, of which ``x`` is this process's share."""
        return x

    @property
    def _part(self) -> tuple[int, ...]:
        """What makes this process's random numbers of a step others than the first one's."""
        return ()

    def _batch(self) -> tuple[Tensor, Tensor]:
        return on_device(self.windows.batch(self.step), self.config.train.device)

    def _gradients(self, x: Tensor, y: Tensor) -> Tensor:
        train = self.config.train
        own = self.config.model.own_code or self.config.optim.own_code
        if self.config.model.dropout or own:
            # They draw from PyTorch's global stream: keyed by step, a resumed run repeats it.
            key = (train.seed, "dropout", train.salt, self.step, *self._part)
            torch.manual_seed(stream_seed(*key))
        return self.engine.gradients(x, y)

    def _step(self, lr: float) -> tuple[Tensor, Tensor | None]:
        """The step's loss, and its gradient norm if it was not skipped."""
        loss = self._gradients(*self._batch())
        return loss, self._update(loss, lr)

    def _update(self, loss: Tensor, lr: float) -> Tensor | None:
        if self.guard is None:
            return self.engine.update(lr)
        norm = self.engine.gradient_norm()
        loss_now, norm_now = torch.stack((loss, norm)).tolist()  # one wait for the device, not two
        if self.guard.accepts(loss_now, norm_now):
            return self.engine.update(lr, norm)
        self.engine.discard()
        self.care.say(f"step {self.step + 1:,} was skipped: its loss was {loss_now:.4g}")
        return None

    def _probed_step(self, lr: float) -> tuple[Tensor, Tensor | None]:
        """A step whose gradients, weights and update are also measured."""
        x, y = self._batch()
        probe = Probe(self.engine, self._probed(x))
        loss = self._gradients(x, y)
        probe.gradients()
        norm = self._update(loss, lr)
        at = {"at": self.probe_at[self.step], "step": self.step}
        self.history["mechanism"].append(at | probe.update())
        return loss, norm

    def _log(self, loss: float | None, norm: Tensor | None, lr: float) -> None:
        """Add a point; ``loss`` is None if all steps since the last one were skipped."""
        tokens, read = self._read()
        self.history["diverged"] = loss is not None and not math.isfinite(loss)
        bpb = None
        if self.step in self.validate_at and not self.history["diverged"]:
            with self.engine.averaged():
                bpb = score(
                    self.engine.model, self.text.validation, self.config.train.curve_bytes
                ).bits_per_byte
        point = {
            "step": self.step + 1,
            "bytes": read,
            "tokens": tokens,
            "train_loss": loss,
            "validation_bpb": bpb,
            "lr": lr,
            "grad_norm": None if norm is None else norm.item(),
            "tokens_per_second": tokens / max(self.history["train_seconds"], 1e-9),
            "seconds": time.perf_counter() - self.started,
        }
        if self.guard is not None:
            point["skipped"] = self.guard.state["skipped"]
        self.history["points"].append(point)
        for recorder in self.care.recorders:
            recorder.point(point)

    def _sample(self) -> None:
        for prompt in self.care.prompts:
            with self.engine.averaged():
                text = continued(self.engine.model, self.text, prompt, SAMPLE_TOKENS)
            sample = {"step": self.step + 1, "prompt": prompt, "text": text}
            self.history.setdefault("samples", []).append(sample)
            for recorder in self.care.recorders:
                recorder.sample(**sample)

    def _show(self) -> None:
        points = self.history["points"]
        losses, measured = (
            [point[name] for point in points if point[name] is not None]
            for name in ("train_loss", "validation_bpb")
        )
        self.on_progress(
            Progress(
                step=self.step,
                steps=self.total,
                loss=losses[-1] if losses else math.nan,
                validation_bpb=measured[-1] if measured else None,
                tokens_per_second=points[-1]["tokens_per_second"],
            )
        )


def last_update(optim: OptimConfig, total: int) -> int:
    """The last step that moves the weights: not the very last one if the rate is zero there."""
    later = (step for step in (total - 1, total - 2) if step > 0)
    return next((step for step in later if learning_rate(optim, step, total) > 0), total - 1)


def evenly(total: int, parts: int) -> set[int]:
    """The last 0-based step of each of so many equal parts of ``total`` steps."""
    return {round((i + 1) * total / parts) - 1 for i in range(parts)}
