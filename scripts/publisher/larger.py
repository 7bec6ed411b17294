"""Forecasts, and measurements of larger models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from generator.claims import FOLDER as CLAIMS
from generator.scale import FORECAST, FORECAST_FIGURE
from generator.tables import environments_of

from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from publisher.files import copy, fit_to_publish

GPU_FILE = "gpu.json"
SCALE_FILES = (GPU_FILE, "loader.json", "lr_transfer.json", "whole_recipe.json")
FORECAST_FILES = ("forecast.json", "runs.csv")
FORECAST_BUDGET = "full"
SCALE = {"scripts/coordinate_check.py": "coordinates.json", "scripts/memory_plan.py": "memory.json"}


def publish_forecast(folder: Path, root: Path) -> Path:
    """Copy a forecast and its runs to the results, and its figure to the documents.

    Raises:
        UserError: it is none of `mytnano forecast --budget full`, or was made from a changed tree.
    """
    try:
        found = json.loads((folder / FORECAST_FILES[0]).read_bytes())
        budget, made = found["budget"], environments_of(found)
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"{folder} holds no runs with their forecast: `mytnano forecast` makes both"
        ) from None
    if budget != FORECAST_BUDGET:
        raise UserError(f"a forecast of budget {budget} means nothing and is not published")
    for each in made:
        fit_to_publish(folder, each.get("commit") or "")
    copy((FORECAST_FIGURE.name,), folder, root / FORECAST_FIGURE.parent)
    evidence = found | {"environment": made[0]}
    atomic_write_json(root / CLAIMS / FORECAST_FILES[0], evidence)
    return copy(FORECAST_FILES, folder, root / FORECAST)


def publish_scale(files: list[Path], root: Path) -> None:
    """Copy results of the scripts about larger models.

    Raises:
        UserError: a file is none of them, a part of it is of --smoke or was made from a changed
            tree, or what a GPU did was done by another device.
    """
    for file in files:
        if file.name not in SCALE_FILES:
            raise UserError(f"{file} is none of {', '.join(SCALE_FILES)}")
        try:
            found = json.loads(file.read_bytes())
            parts = list(found.values()) if file.name == GPU_FILE else [found]
            made = [part["environment"] for part in parts]
            devices = {each.get("device") for each in made}
            commits = {each["commit"] or "" for each in made}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{file} is missing or damaged: measure it again") from None
        if any(part.get("smoke") for part in parts):
            raise UserError(f"{file} is of --smoke, means nothing and is not published")
        if file.name == GPU_FILE and devices != {"cuda"}:
            raise UserError(f"{file} is not of a GPU throughout and is not published")
        for commit in commits:
            fit_to_publish(file, commit)
        copy((file.name,), file.parent, root / "results/scale")


def measure_scale(root: Path) -> None:
    """Run the two measurements of docs/scale.md and docs/forecast.md in a clone of this commit."""
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "--quiet", root, clone], check=True)
        outside = {**os.environ, "PYTHONPATH": str(clone / "src")}
        for script, name in SCALE.items():
            subprocess.run([sys.executable, script], cwd=clone, env=outside, check=True)
            file = clone / "results/scale" / name
            found = json.loads(file.read_bytes())
            for each in found.get("shapes", {"all": found}).values():
                fit_to_publish(file, each["environment"]["commit"])
            copy((name,), file.parent, root / "results/scale")
