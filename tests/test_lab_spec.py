"""Questions: three lines are enough, and every mistake is one sentence before any compute."""

import pytest

from mytnano.config import RunConfig
from mytnano.errors import UserError
from mytnano.lab.settings import FIXED, SECTIONS, changed, differences, full_name
from mytnano.lab.spec import Spec, builtin_names, overrides, read_spec

THREE_LINES = """
baseline: small
arms:
  swiglu: {ffn: swiglu, ffn_width: 168}
"""


def test_three_lines_are_a_question(tmp_path):
    path = tmp_path / "swiglu.yaml"
    path.write_text(THREE_LINES)
    spec = read_spec(path)
    assert spec.arms == {"swiglu": {"ffn": "swiglu", "ffn_width": 168}}
    assert (spec.margin, spec.alpha, spec.match, spec.corpus) == (0.3, 0.01, "flops", "sotu")
    assert read_spec(str(path), seeds=5).seeds == 5
    assert read_spec({"arms": {"relu": {"ffn": "relu"}}}).baseline == "small"


@pytest.mark.parametrize("name", builtin_names())
def test_every_built_in_question_can_be_read(name):
    spec = read_spec(name)
    assert spec.question.endswith("?") or "?" in spec.question
    assert isinstance(spec, Spec) and spec.arms


MISTAKES = [
    ("", "must be fields with values"),
    ("- a\n- b", "must be fields with values"),
    ("arms: {a: {ffn: relu}", "is not YAML in line"),
    ("baseline: small", "there are no arms"),
    ("arms: {}", "there are no arms"),
    ("arms: {a: {ffn: relu}}\nseed: 3", "unknown field 'seed'; did you mean seeds?"),
    ("arms: {a: {ffn: relu}}\nxyz: 3", "unknown field 'xyz'; known: question, baseline"),
    ("arms: {a: relu}", "arms.a: Input should be a valid dictionary"),
    ("arms: {a: {ffn: relu}}\nmargin: 0", "the margin is 0 %"),
    ("arms: {a: {ffn: relu}}\nmargin: -1", "the margin is -1 %"),
    ("arms: {a: {ffn: relu}}\nalpha: 0.7", "alpha is 0.7"),
    ("arms: {a: {ffn: relu}}\nseeds: 2", "seeds: Input should be greater than or equal to 3"),
    ("arms: {a: {ffn: relu}}\nmatch: money", "match: Input should be 'flops', 'parameters'"),
    ("arms: {baseline: {ffn: relu}}", "no arm may be called 'baseline'"),
    ("arms: {../x: {ffn: relu}}", "'../x' cannot be the name of an arm"),
    ("arms: {'': {ffn: relu}}", "'' cannot be the name of an arm"),
    ("arms: {a: {ffn: relu}, a: {ffn: silu}}", "is not YAML in line 1: 'a' twice"),
    ("arms: {no: {ffn: relu}}", "Input should be a valid string"),
    ("question: 2026-13-45", "is not YAML"),
    ("question: " + "[" * 3000, "is not YAML"),
    ("arms: {a: {ffn: relu}}\nprediction: {b: better}", "names 'b', which is not an arm"),
    ("arms: {a: {ffn: relu}}\nprediction: {a: best}", "'best' is not a verdict"),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES)
def test_a_mistake_is_one_sentence(tmp_path, text, words):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_spec(path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_name_lists_what_is_built_in(tmp_path):
    with pytest.raises(UserError, match=r"neither a file nor a built-in.*swiglu"):
        read_spec("swigloo")
    with pytest.raises(UserError, match=r"'a{60}' is neither a file nor a built-in"):
        read_spec("a" * 300)
    (tmp_path / "odd").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot read"):
        read_spec(tmp_path / "odd")


def test_settings_by_short_and_full_name():
    assert full_name("ffn") == full_name("model.ffn") == "model.ffn"
    assert full_name("weight_decay") == "optim.weight_decay"
    every = [
        field
        for section, kind in SECTIONS.items()
        for field in kind.model_fields
        if f"{section}.{field}" not in FIXED
    ]
    assert len(every) == len(set(every)), "short names are unique"
    config = changed(RunConfig(), {"ffn": "silu", "optim.beta2": 0.9})
    assert (config.model.ffn, config.optim.beta2) == ("silu", 0.9)
    assert differences(RunConfig(), config) == ["model.ffn", "optim.beta2"]
    assert differences(RunConfig(), config.but(train={"seed": 3}), "nuisance") == ["train.seed"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fnn": "relu"}, "'fnn' is not a setting; did you mean ffn"),
        ({"model.nothing": 1}, "'model.nothing' is not a setting"),
        ({"zzzz": 1}, "'zzzz' is not a setting; docs/settings.md"),
        ({"lr": 0.1}, "optim.lr is set by the lab"),
        ({"seed": 1}, "train.seed is set by the lab"),
        ({"ffn": "swish"}, "model.ffn: Input should be"),
        ({"heads": 3}, "model: width 128 must be a multiple of heads 3"),
    ],
)
def test_settings_that_do_not_fit(changes, words):
    with pytest.raises(UserError, match=words):
        changed(RunConfig(), changes)


def test_fields_on_the_command_line():
    words = ["seeds=40", "margin=0.5", "corpus=a=b.txt", "prediction={relu: worse}"]
    expected = {"seeds": 40, "margin": 0.5, "corpus": "a=b.txt", "prediction": {"relu": "worse"}}
    assert overrides(words) == expected
    for bad in ("seeds", "=3", "seeds={"):
        with pytest.raises(UserError, match=r"NAME=VALUE|no value"):
            overrides([bad])
