"""The guide to many ranks, executed line by line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs_toys import ROOT

from mytnano.runs.store import RunFolder

INTERRUPTED = 124
"""Of `timeout`, when it had to send its signal; a quick machine is done before."""


@pytest.mark.ranks
def test_the_guide_runs_line_by_line(tmp_path):
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 5
    here = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    source = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    for line in lines:
        line = re.sub(r"(^|\s)mytnano train", r"\1python -m mytnano train", line)
        line = line.replace("-m python -m", "-m")
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env={**os.environ, **here, **source},
            capture_output=True, text=True,
        )  # fmt: skip
        stopped = done.returncode in (INTERRUPTED, 1) and line.startswith("timeout")
        assert done.returncode == 0 or stopped, f"{line}\n{done.stdout}\n{done.stderr}"
    for name in ("one", "two", "resharded", "scaled"):
        assert RunFolder(tmp_path / "out/scale" / name).is_finished(), name
    one, two = (RunFolder(tmp_path / "out/scale" / name).result() for name in ("one", "two"))
    assert one["precision"] == two["precision"] == "fp32"
    assert two["test_bpb"] == pytest.approx(one["test_bpb"], abs=1e-3)
