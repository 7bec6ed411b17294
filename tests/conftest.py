"""One thread for every test, as results of some kernels depend on their number, and so does speed;
and what the tests of the training loop share."""

import pytest
import torch
from loop_toys import MINE, text_with_three_splits

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def text():
    """The text of toy runs, unless a file of tests has its own."""
    return text_with_three_splits()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The user's own optimizer, where the designs look for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
