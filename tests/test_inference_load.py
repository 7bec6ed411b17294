"""A run folder is read whole and checked, or refused in one sentence."""

import json
import shutil

import pytest
import torch
from loop_toys import load_weights
from model_toys import text_of, toy_run, words
from run_toys import toy_folder
from train_toys import made, text_file, toy_request

from mytnano import cli
from mytnano.errors import UserError
from mytnano.inference.documents import Texts, as_json, evaluate
from mytnano.inference.load import find_run, load_run
from mytnano.inference.unfinished import load_unfinished
from mytnano.runs.store import RunFolder
from mytnano.text.vocabulary import ByteTokenizer
from mytnano.training.checkpoint import read_checkpoint
from mytnano.training.engine import Engine
from mytnano.training.loop import train


@pytest.fixture
def folder(tmp_path):
    return toy_folder(tmp_path, "byte")


def reseal(folder):
    (folder / "manifest.json").unlink()
    RunFolder(folder, "any").finish()


def test_a_trained_run_scores_again_what_it_scored(tmp_path):
    splits = [words(3, 300, seed) for seed in range(3)]
    text = text_of(splits, ByteTokenizer())
    folder = tmp_path / "runs" / "one"
    config = toy_run(text, steps=2, window=16, model={"width": 16, "layers": 1, "heads": 2})
    result = train(config, text, folder)
    RunFolder(folder, config.hash).finish()
    found = evaluate(load_run(tmp_path), splits[2]).score
    assert found.bits_per_byte == pytest.approx(result["test_bpb"], rel=1e-6)
    assert found.accuracy == result["test_accuracy"]


def test_everything_is_as_it_was_saved(folder):
    run = load_run(folder.parent.parent)  # the output folder, which has one run
    assert run.folder == folder and run.name == "toy-s0"
    assert run.result["test_bpb"] == 2.5 and run.tokenizer.name == "byte"
    assert not run.model.training
    twin = type(run.model)(run.config.model)
    load_weights(twin, folder)
    for one, other in zip(run.model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)


def test_of_several_runs_the_names_are_listed(folder):
    shutil.copytree(folder, folder.with_name("toy-s1"))
    shutil.copytree(folder, folder.with_name("toy-s1.damaged-1"))
    with pytest.raises(UserError, match=r"has 2 runs: give .*runs/NAME of toy-s0, toy-s1$"):
        find_run(folder.parent.parent)


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_what_is_no_run(tmp_path, what):
    if what == "empty":
        (tmp_path / "x").mkdir()
    if what == "file":
        (tmp_path / "x").touch()
    with pytest.raises(UserError, match="no finished run" if what == "empty" else "not a folder"):
        load_run(tmp_path / "x")


def test_a_name_that_no_folder_can_have():
    with pytest.raises(UserError, match="is not a folder"):
        find_run("a" * 300)


def test_an_unfinished_run(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match="unfinished"):
        load_run(folder)


@pytest.mark.parametrize("name", ["plan.json", "checkpoint.bin", "checkpoints"])
def test_an_interrupted_training_is_unfinished_too(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"is unfinished .* which continues it"):
        load_run(tmp_path)


def test_an_unfinished_training_can_be_sampled(tmp_path, monkeypatch, capsys):
    out, update, steps = tmp_path / "run", Engine.update, []

    def counted(engine, lr, norm):
        steps.append(lr)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return update(engine, lr, norm)

    monkeypatch.setattr(Engine, "update", counted)
    with pytest.raises(KeyboardInterrupt):
        made(toy_request(text_file(tmp_path)), out, checkpoint_minutes=1e-9)
    run, step = load_unfinished(out)
    tensors, _ = read_checkpoint(out / "checkpoint.bin", run.config.hash)
    assert step == 4 and run.tokenizer.name == "char"
    for name, parameter in run.model.named_parameters():
        assert torch.equal(parameter, tensors[f"weight/{name}"])
    monkeypatch.setattr("sys.argv", ["mytnano", "sample", str(out), "--tokens", "5"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert "run is unfinished: this is what it writes after 4 steps" in capsys.readouterr().err
    (out / "checkpoint.bin").write_bytes(b"torn")
    assert load_unfinished(out)[1] == 3
    (out / "checkpoint-previous.bin").unlink()
    assert load_unfinished(out) is None
    with pytest.raises(UserError, match="is unfinished"):
        load_run(out)


def test_a_run_of_another_version_keeps_its_hash_and_says_so(folder):
    assert load_run(folder).caveat is None
    reseal(folder)  # as "any"
    run = load_run(folder)
    assert run.hash == "any" and "made by another version of mytnano, as any" in run.caveat
    found = evaluate(run, words(3, 300))
    texts = Texts("x", words(3, 300), [])
    assert as_json(run, texts, found, False)["config_hash"] == "any"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "manifest.json"])
def test_a_changed_byte_is_found(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_run(folder)


def change(folder, **model):
    config = json.loads((folder / "config.json").read_text())
    config["model"] |= model
    (folder / "config.json").write_text(json.dumps(config))
    reseal(folder)


@pytest.mark.parametrize(
    "model, said",
    [
        ({"future_part": True}, "not a run that this version"),
        ({"width": 48}, "of another model"),
        ({"layers": 3}, "of another model"),
        ({"vocab_size": 300}, "different runs are mixed"),
    ],
)
def test_files_that_do_not_fit_each_other(folder, model, said):
    change(folder, **model)
    with pytest.raises(UserError, match=said):
        load_run(folder)


def test_weights_that_are_none(folder):
    (folder / "model.safetensors").write_bytes(b"torn")
    reseal(folder)
    with pytest.raises(UserError, match="cannot be read"):
        load_run(folder)


def test_a_module_of_ones_own_must_be_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "from torch import nn\n\nclass Mine(nn.Linear):\n    def __init__(self, config):\n"
    code += "        super().__init__(config.width, config.width)\n"
    (tmp_path / "mine.py").write_text(code)
    from mytnano.model.own import code_hash

    digest = code_hash(["mine.py:Mine"])
    folder = toy_folder(tmp_path / "a", "byte", ffn="mine.py:Mine", own_code=digest)
    load_run(folder)
    (tmp_path / "mine.py").write_text(code + "# another\n")
    with pytest.raises(UserError, match="has changed"):
        load_run(folder)
