"""``mytnano export``."""

from __future__ import annotations

from pathlib import Path

from mytnano.errors import unknown
from mytnano.inference.load import load_run

FORMATS = ("hf", "gguf")


def export(path: Path, format: str, out: Path | None) -> list[str]:
    """Write a run in a format; returns sentences to print.

    Raises:
        UserError: no such run or format, or one that the design does not fit.
    """
    if format not in FORMATS:
        raise unknown(format, "a format", FORMATS)
    run = load_run(path)
    if format == "hf":
        from mytnano.interop.huggingface import export_huggingface

        return export_huggingface(run, out or Path("out") / f"export-{run.name}")
    from mytnano.interop.gguf_file import export_gguf

    return export_gguf(run, out or Path("out") / f"export-{run.name}.gguf")
