"""One way to print a sentence."""

import io
import re
from pathlib import Path

from rich.console import Console

from mytnano.terminal import tell

SOURCE = Path(__file__).resolve().parent.parent / "src" / "mytnano"


def test_a_sentence_is_printed_as_it_is():
    printed = io.StringIO()
    sentence = "[red]every[/] 1,000 words of it, " * 9 + "end"
    tell(Console(file=printed, width=40, force_terminal=True), sentence)
    assert printed.getvalue() == sentence + "\n"


def test_it_is_defined_once():
    places = [
        path.relative_to(SOURCE).as_posix()
        for path in sorted(SOURCE.rglob("*.py"))
        if re.search(r"^def \w+\(console: Console, \w+: str\)", path.read_text(), re.MULTILINE)
        and "markup=False, soft_wrap=True" in path.read_text()
    ]
    assert places == ["terminal.py"]
