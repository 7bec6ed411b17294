"""One design, trained by itself from Python: what the commands do for many, in one call."""

from __future__ import annotations

from pathlib import Path

from mytnano.config import RunConfig
from mytnano.model.own import with_own_code
from mytnano.run_files import CACHE, drop_checkpoints
from mytnano.training.contract import check_own
from mytnano.training.loop import train
from mytnano.training.text import prepare, resolve


def train_alone(config: RunConfig, folder: Path | str) -> dict:
    """Read the text that a design asks for, train it in this process, measure and keep it.

    Not repeated from the command line's way: no worker processes, no tuned rate, no plan. A folder
    with a checkpoint of the same run is continued.

    Args:
        config: a design such as :func:`mytnano.designs.baselines.starting_design` gives, with a
            learning rate and a budget; fingerprint, vocabulary, window and the hash of the files of
            one's own modules are filled in here.
        folder: of the run; the cache of the text is made beside it.

    Returns:
        The result; see :mod:`mytnano.training.outcome`.

    Raises:
        UserError: the corpus cannot be used, or is too short for the design, or a module of one's
            own is missing or breaks its contract (:mod:`mytnano.training.contract`).
    """
    folder = Path(folder)
    cache = folder.parent / CACHE
    resolved = with_own_code(resolve(config, cache))
    check_own(resolved)
    result = train(resolved, prepare(resolved.data, cache), folder)
    drop_checkpoints(folder)
    return result
