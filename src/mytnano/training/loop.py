"""The training loop: the only one. Every rung, ablation and recipe goes through :func:`train`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from mytnano.config import RunConfig
from mytnano.files import atomic_write_bytes, atomic_write_json, atomic_write_text, json_text
from mytnano.measure import mechanism
from mytnano.measure.evaluate import score
from mytnano.model.init import stream_seed
from mytnano.model.transformer import Transformer
from mytnano.text.batches import Windows
from mytnano.training import memory
from mytnano.training.checkpoint import NAME as CHECKPOINT
from mytnano.training.checkpoint import load_checkpoint, save_checkpoint
from mytnano.training.engine import Engine
from mytnano.training.outcome import describe
from mytnano.training.schedule import learning_rate
from mytnano.training.text import Text

CHECKPOINT_SECONDS = 60.0
"""A run shorter than this is simply run again after a crash."""

TOKENIZER = "tokenizer"
"""Folder of the tokenizer in a run folder, so that the folder alone can be sampled and exported."""

PROBE_WINDOWS = 8
"""Windows of the batch on which the mechanism is measured."""

OnProgress = Callable[..., None]


def train(
    config: RunConfig,
    text: Text,
    folder: Path,
    on_progress: OnProgress = lambda **progress: None,
    labels: dict | None = None,
) -> dict:
    """Train one resolved config to its end, measure it, and write the files of the run.

    Continues from the folder's checkpoint if there is one of this config. Same config, same
    numbers: on one CPU and number of threads bit for bit, interrupted or not.

    Args:
        config: resolved by :func:`mytnano.training.text.resolve`.
        text: from :func:`mytnano.training.text.prepare`.
        folder: the run folder.
        on_progress: called about twice a second with ``step, steps, loss, validation_bpb,
            tokens_per_second``.
        labels: what the caller wants in the result besides, such as the rung.

    Returns:
        The result; see :mod:`mytnano.training.outcome`.

    Raises:
        UserError: the text is too short for a window, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(config, text, folder, on_progress)
    run.steps()
    return run.finish(labels or {})


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
        engine: Engine | None = None,
    ) -> None:
        if engine is None:
            memory.reset_peak(config.train.device)
        self.config, self.text, self.folder, self.on_progress = config, text, folder, on_progress
        self.engine = engine or Engine(config)
        train, data = config.train, config.data
        self.windows = Windows(
            text.train,
            data.window_bytes,
            config.model.context,
            train.batch_windows,
            train.seed,
            train.salt,
        )
        self.total = config.steps
        self.log_at = set(
            np.unique(np.linspace(0, self.total - 1, min(self.total, 200)).astype(int)).tolist()
        )
        self.validate_at = {
            round((i + 1) * self.total / train.evaluations) - 1 for i in range(train.evaluations)
        }
        self.probe_at = {round(self.total / 10): "10%", 0: "init", self.total - 1: "end"}
        self.step, self.history = load_checkpoint(folder, self.engine, config.hash) or (
            0,
            {
                "points": [],
                "mechanism": [],
                "seconds": 0.0,
                "train_seconds": 0.0,
                "diverged": False,
            },
        )
        self.started = time.perf_counter() - self.history["seconds"]
        self.losses: list[Tensor] = []
        self.shown = self.saved = time.perf_counter()

    def steps(self) -> None:
        """Train until the last step, or until the loss is no longer a number."""
        self.engine.model.train()
        while self.running:
            self.optimise()
            self.record()

    @property
    def running(self) -> bool:
        """Whether there is another step to make."""
        return self.step < self.total and not self.history["diverged"]

    @property
    def due(self) -> bool:
        """Whether this step is logged."""
        return self.step in self.log_at or self.step in self.validate_at

    def optimise(self) -> None:
        """Make one optimizer step."""
        begun = time.perf_counter()
        self.lr = learning_rate(self.config.optim, self.step, self.total)
        step = self._probed_step if self.step in self.probe_at else self._step
        loss, self.norm = step(self.lr)
        self.losses.append(loss)
        if self.due:
            self.mean_loss = (
                torch.stack(self.losses).mean().item()
            )  # waits for the device, so it belongs to the step's time
            self.losses.clear()
        self.history["train_seconds"] += time.perf_counter() - begun

    def record(self) -> None:
        """Log and validate if the step is due for it, and save now and then."""
        due = self.due
        if due:
            self._log(self.mean_loss, self.norm.item(), self.lr)
        self.step += 1
        now = time.perf_counter()
        if due and now - self.shown > 0.5:
            self.shown = now
            self._show()
        if now - self.saved > CHECKPOINT_SECONDS and self.step < self.total and not self.losses:
            self.saved = now
            self.history["seconds"] = now - self.started
            save_checkpoint(self.folder, self.engine, self.step, self.config.hash, self.history)

    def finish(self, labels: dict) -> dict:
        """Measure the trained model, write the run's files, drop its checkpoint."""
        config, history, engine = self.config, self.history, self.engine
        with engine.averaged():
            result = labels | describe(config, engine, self.text, self.windows, history, self.step)
            result["seconds"] = time.perf_counter() - self.started
            result["peak_memory_bytes"] = memory.peak_bytes(config.train.device)
            weights = {name: p.detach().cpu().contiguous() for name, p in engine.masters.items()}
            atomic_write_bytes(
                self.folder / "model.safetensors",
                save(weights, metadata={"config_hash": config.hash}),
            )
        atomic_write_text(
            self.folder / "metrics.jsonl",
            "".join(json_text(point) + "\n" for point in history["points"]),
        )
        self.text.tokenizer.save(self.folder / TOKENIZER)
        atomic_write_json(self.folder / "config.json", config.model_dump())
        atomic_write_json(self.folder / "result.json", result)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)
        return result

    def _batch(self) -> tuple[Tensor, Tensor]:
        device = self.config.train.device
        x, y = (torch.from_numpy(ids).to(device) for ids in self.windows.batch(self.step))
        return x, y

    def _gradients(self, x: Tensor, y: Tensor) -> Tensor:
        train = self.config.train
        own = self.config.model.own_code or self.config.optim.own_code
        if self.config.model.dropout or own:
            # They draw from PyTorch's global stream: keyed by step, a resumed run repeats it.
            torch.manual_seed(stream_seed(train.seed, "dropout", train.salt, self.step))
        return self.engine.gradients(x, y)

    def _step(self, lr: float) -> tuple[Tensor, Tensor]:
        loss = self._gradients(*self._batch())
        return loss, self.engine.update(lr)

    def _probed_step(self, lr: float) -> tuple[Tensor, Tensor]:
        """A step whose gradients, weights and update are also measured."""
        engine = self.engine
        x, y = self._batch()
        blocks = mechanism.probe(engine.exact_model(), x[:PROBE_WINDOWS])
        loss = self._gradients(x, y)
        gradients = {name: p.grad for name, p in engine.masters.items()}
        gradient_norms = mechanism.block_norms(engine.model, gradients)
        embedding_norm = gradients["embedding.weight"].float().norm().item()
        before = {name: p.detach().clone() for name, p in engine.masters.items()}
        norm = engine.update(lr)
        update_norms = mechanism.block_norms(
            engine.model, {n: p.detach() - before[n] for n, p in engine.masters.items()}
        )
        weight_norms = mechanism.block_norms(engine.model, before)
        for block, gradient, update, weight in zip(
            blocks, gradient_norms, update_norms, weight_norms, strict=True
        ):
            block |= {
                "gradient_norm": gradient,
                "update_ratio": update / weight if weight else None,
            }
        self.history["mechanism"].append(
            {
                "at": self.probe_at[self.step],
                "step": self.step,
                "blocks": blocks,
                "embedding_gradient_norm": embedding_norm,
            }
        )
        return loss, norm

    def _log(self, loss: float, norm: float, lr: float) -> None:
        tokens, read = self.windows.tokens_and_bytes(self.step + 1)
        self.history["diverged"] = not math.isfinite(loss)
        bpb = None
        if self.step in self.validate_at and not self.history["diverged"]:
            with self.engine.averaged():
                bpb = score(
                    self.engine.model, self.text.validation, self.config.train.curve_bytes
                ).bits_per_byte
        self.history["points"].append(
            {
                "step": self.step + 1,
                "bytes": read,
                "tokens": tokens,
                "train_loss": loss,
                "validation_bpb": bpb,
                "lr": lr,
                "grad_norm": norm,
                "tokens_per_second": tokens / max(self.history["train_seconds"], 1e-9),
                "seconds": time.perf_counter() - self.started,
            }
        )

    def _show(self) -> None:
        last = self.history["points"][-1]
        measured = [
            p["validation_bpb"] for p in self.history["points"] if p["validation_bpb"] is not None
        ]
        self.on_progress(
            step=self.step,
            steps=self.total,
            loss=last["train_loss"],
            validation_bpb=measured[-1] if measured else None,
            tokens_per_second=last["tokens_per_second"],
        )


def load_weights(model: Transformer, folder: Path) -> None:
    """Put a finished run's fp32 weights into a model of its config."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
