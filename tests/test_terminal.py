"""One way to print a sentence."""

import io
import re
from pathlib import Path

from rich.console import Console

from mytnano.terminal import plain, tell

SOURCE = Path(__file__).resolve().parent.parent / "src" / "mytnano"


def test_a_sentence_is_printed_as_it_is():
    printed = io.StringIO()
    sentence = "[red]every[/] 1,000 words of it :cat:, " * 9 + "end"
    tell(Console(file=printed, width=40, force_terminal=True), sentence)
    assert printed.getvalue() == sentence + "\n"


def test_text_of_others_is_neither_markup_nor_a_command_to_the_terminal():
    printed = io.StringIO()
    text = "[/x] :cat: \x1b[31ma\u00a0b\u202fc"
    Console(file=printed, width=99, force_terminal=True, color_system=None).print(plain(text))
    assert printed.getvalue() == "[/x] :cat: \ufffd[31ma\u00a0b\u202fc\n"


def test_it_is_defined_once():
    places = [
        path.relative_to(SOURCE).as_posix()
        for path in sorted(SOURCE.rglob("*.py"))
        if re.search(r"^def \w+\(console: Console, \w+: str\)", path.read_text(), re.MULTILINE)
        and "markup=False" in path.read_text()
    ]
    assert places == ["terminal.py"]
