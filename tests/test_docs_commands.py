"""Commands, questions and Python in the documents: none names what is not there.

Every line that is a command is parsed by the command line itself, and its words are held against
what the program knows: rungs, recipes, settings, questions. Every YAML block is read as a question.
Every Python block is executed, with toys in place of long runs. The cells of the tour are run as
they stand in test_docs_tour.py, the lines of docs/scale.md in test_docs_scale.py, and commands that
neither train nor time in test_docs_executed.py.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from docs_blocks import blocks, commands, inner, mentions
from docs_toys import ROOT
from lab_toys import TINY, pretend, question, where
from typer.main import get_command

from mytnano.claims.ledger import chosen
from mytnano.cli import app
from mytnano.cli.shared import split_names
from mytnano.config import ModelConfig
from mytnano.designs.baselines import starting_design
from mytnano.designs.recipes import SIZES
from mytnano.designs.rungs import Rung, model, select
from mytnano.designs.settings import assignments
from mytnano.designs.settings import changed as with_settings
from mytnano.designs.settings import full_name as any_name
from mytnano.lab import ablate, read_spec
from mytnano.lab.plan import make_plan
from mytnano.lab.settings import full_name
from mytnano.lab.spec import builtin_names, overrides
from mytnano.planning.hardware import parse_hardware
from mytnano.planning.plan import design_named
from mytnano.text.splits import parse_split

VERBS = get_command(app).commands
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([\w-]+):(?!=)", MAKEFILE, re.MULTILINE))
PLACEHOLDER = re.compile(r"[A-Z]+")

NOT_THERE_YET = {("docs/architecture.md", "gelu"): "the rung that the reader is about to add"}
"""Words that need not be known, and why."""


def known(word: str, page: str) -> bool:
    """Whether a word must be known to the program."""
    return not PLACEHOLDER.fullmatch(word) and (page, word) not in NOT_THERE_YET


def look_at(verb: str, words: list[str], page: str) -> None:
    """Parse the words of a verb, and hold the names in them against what there is."""
    given = VERBS[verb].make_context(verb, list(words)).params
    if verb in ("ladder", "explain"):
        names = [given["rung"]] if verb == "explain" else given["rungs"] or []
        select([id for id in split_names(names) if known(id, page)])
        assert not given.get("more"), words
    if verb == "ablate":
        name = str(given["question"])
        assert name.endswith(".yaml") or not known(name, page) or name in [*builtin_names(), "None"]
        overrides(given["fields"] or ())
    if verb == "claims":
        words = (given["first"] or "run", *(given["others"] or ()))
        chosen(tuple(w for w in words if w != "run" and known(w, page)))
    if verb in ("train", "plan") and known(given["recipe"], page):
        assert given.get("size") in (None, *SIZES)
        with_settings(design_named(given["recipe"]), assignments(given["fields"] or ()))
    if verb == "plan":
        parse_hardware(given["hardware"])
    if given.get("split") and verb != "eval":
        parse_split(given["split"])


@pytest.mark.parametrize(("place", "words"), commands(), ids=lambda value: str(value)[:80])
def test_every_command_can_be_carried_out(place, words):
    page, words = place.partition(":")[0], inner(words)
    program = Path(words[0]).name
    if program == "make":
        assert words[1] in TARGETS
        passed = dict(word.split("=", 1) for word in words[2:])
        assert all(re.search(rf"^{name} \?=", MAKEFILE, re.MULTILINE) for name in passed)
        if words[1] == "ladder" and "ARGS" in passed:
            program, words = "mytnano", ["mytnano", "ladder", *passed["ARGS"].split()]
    if program == "mytnano":
        look_at(words[1], words[2:], page)
    elif program == "python":
        assert (ROOT / words[1]).is_file()
    elif program == "mytnano.interop.lm_harness":
        assert words[1] == "run", "a verb of the harness, which brings its own command line"
    elif program == "pip":
        extras = re.fullmatch(r"\.\[([\w,-]+)\]", words[-1])
        assert extras, words
    else:
        assert program in ("make", "ls") or words == [".", ".venv/bin/activate"]


@pytest.mark.parametrize(("page", "words"), mentions(), ids=lambda value: str(value)[:80])
def test_every_command_in_a_sentence_has_its_verb_and_options(page, words):
    if words[0] == "make":
        return test_every_command_can_be_carried_out(f"{page}:0", words)
    verb = VERBS[words[1]]
    options = {name for param in verb.params for name in param.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options


QUESTIONS = {block.text: block for block in blocks() if block.language == "yaml"}


@pytest.mark.parametrize("block", QUESTIONS.values(), ids=lambda block: block.place)
def test_every_question_can_be_asked(block):
    given = yaml.safe_load(block.text)
    spec = read_spec({"arms": {"relu": {"ffn": "relu"}}} | given)
    base = spec.baseline if isinstance(spec.baseline, dict) else {"from": spec.baseline}
    starting_design(base["from"])
    for name in base.keys() - {"from"}:
        any_name(name)
    for changes in spec.arms.values():
        for name in changes.keys() - {"joint"}:
            full_name(name)


PYTHON = [b for b in blocks() if b.language == "python" and b.page != "docs/tour.md"]


def block_with(word: str) -> str:
    (found,) = [block.text for block in PYTHON if word in block.text]
    return found


def test_no_python_block_is_left_out():
    words = ("ablate(", "Rung(", "MyFFN(", "MyOptimizer(", "judge(")
    assert len(PYTHON) == len({block_with(word) for word in words})


def test_a_question_asked_from_python(tmp_path, monkeypatch, capsys):
    def small(asked, out):
        return ablate(question(tmp_path, **asked), tmp_path / out, workers=0)

    pretend(monkeypatch, lambda arm, lr, seed: 2 + (arm == "relu") / 9 + 0.01 * np.sin(seed + lr))
    monkeypatch.setattr("mytnano.lab.ablate", small)
    exec(block_with("ablate("), {})
    sentence, verdict = capsys.readouterr().out.splitlines()
    assert sentence.startswith("relu ") and verdict in sentence


def test_a_rung_as_it_is_added():
    rung = eval(block_with("Rung("), {"Rung": Rung, "model": model})
    assert rung.change(starting_design(rung.parent)).model.ffn == "gelu"


@pytest.mark.parametrize("word", ["MyFFN(", "MyOptimizer("])
def test_own_code_is_accepted_as_it_stands(tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(block_with(word), encoding="utf-8")
    (arm,) = [b.text for b in QUESTIONS.values() if f"mine.py:{word[:-1]}" in b.text]
    asked = question(tmp_path, **yaml.safe_load(arm))
    plan = make_plan(read_spec(asked), where(tmp_path, asked["corpus"]))
    assert "mine.py" in str(plan.arms[0].config)


def test_own_module_computes_what_it_says():
    space = {}
    exec(block_with("MyFFN("), space)
    x = torch.randn(2, 3, 16)  # (B, T, D)
    config = ModelConfig(width=16, ffn_width=TINY["ffn_width"])
    assert space["MyFFN"](config)(x).shape == x.shape


def test_verdicts_from_python(capsys):
    rng = np.random.default_rng(0)
    relu = 2 + 0.001 * rng.standard_normal(12)
    exec(block_with("judge("), {"relu": relu, "swiglu": 0.97 * relu})
    assert capsys.readouterr().out.startswith("better -3.0")


def test_blocks_say_their_language():
    for block in blocks():
        assert block.language in ("sh", "python", "yaml", "text", ""), block.place
