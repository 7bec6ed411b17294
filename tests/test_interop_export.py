"""Exported models: written whole, and for transformers the same model, text and ids."""

import json

import pytest
import torch
from model_toys import HEALTHY
from run_toys import GPT2, toy_folder

from mytnano import cli
from mytnano.config import ModelConfig
from mytnano.errors import UserError
from mytnano.inference.generate import generate, start
from mytnano.inference.load import load_run
from mytnano.interop.architectures import find_target
from mytnano.interop.card import model_card
from mytnano.interop.command import export

MODEL = ModelConfig(vocab_size=50, context=48, **HEALTHY)

NANOCHAT = {"ffn": "relu2", "qk_norm": True, "norm_gain": False, "embedding_norm": True}

KINDS = {
    "llama": {},
    "llama-tied-mqa": {"tied": True, "kv_heads": 1},
    "llama-padded": {"multiple": 128},
    "llama-geglu": {"ffn": "geglu", "rope_base": 500.0},
    "llama-glu-mha": {"ffn": "glu", "kv_heads": 4},
    "arcee-relu": {"ffn": "relu"},
    "arcee-relu2": {"ffn": "relu2", "norm_gain": False},
    "qwen3": {"qk_norm": True},
    "qwen3-relu2": {"qk_norm": True, "ffn": "relu2", "embedding_norm": True, "tied": True},
    "nanochat": {**NANOCHAT, "softcap": 5.0},
    "nanochat-tied": {**NANOCHAT, "tied": True, "ffn": "gelu"},
    "gpt2": GPT2,
    "gpt2-relu-mha": {**GPT2, "ffn": "relu", "kv_heads": 4, "tied": True},
    "gpt2-no-gain": {**GPT2, "norm_gain": False, "embedding_norm": True},
}

STRINGS = [
    "We the people",
    " don't  agree in 1789 or 20245\n\n  x ",
    "Größe € 😀 日本\t<|endoftext|> and <0x41>",
    "",
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_there(tmp_path, kind):
    run = toy_folder(tmp_path, "byte", **KINDS[kind])
    said = export(run, "hf", tmp_path / "hf")
    assert kind.partition("-")[0] in said[0].lower()
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert config["model_type"] == kind.partition("-")[0]
    assert {path.name for path in (tmp_path / "hf").iterdir()} == {
        "README.md", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert "2.5000" in (tmp_path / "hf/README.md").read_text()
    for name in ("tokenizer_config.json", "generation_config.json"):
        written = json.loads((tmp_path / "hf" / name).read_text())
        assert written.keys() & {"pad_token", "pad_token_id"}, name
    with pytest.raises(UserError, match="not an empty folder"):
        export(run, "hf", tmp_path / "hf")


def test_an_export_is_whole_or_absent(tmp_path, monkeypatch):
    run = toy_folder(tmp_path / "run", "byte")

    def stopped(*given):
        raise KeyboardInterrupt

    (tmp_path / "hf").mkdir()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mytnano.interop.huggingface.architecture_config", stopped)
        export(run, "hf", tmp_path / "hf")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["hf", "run"]
    assert not any((tmp_path / "hf").iterdir())
    export(run, "hf", tmp_path / "hf")
    assert (tmp_path / "hf/config.json").is_file()


def test_the_format_is_hf_if_none_is_named(tmp_path, monkeypatch, capsys):
    run = toy_folder(tmp_path / "run", "byte")
    monkeypatch.setattr("sys.argv", ["mytnano", "export", str(run), "--out", str(tmp_path / "x")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code and "of transformers to" in capsys.readouterr().out


def test_the_card_counts_operations_in_words(tmp_path):
    run = load_run(toy_folder(tmp_path, "byte"))
    run.result["flops"] = 1.02e14
    card = model_card(run, find_target(run.config.model))
    assert "| counted operations of training | 102 TFLOP |" in card and run.hash in card


@pytest.mark.parametrize(
    "change, nearest, part, advice",
    [
        ({"x0_skip": True}, "Llama", "x0_skip=true", "model.x0_skip=false"),
        ({"value_embeddings": True}, "Llama", "value_embeddings=true", "value_embeddings=false"),
        ({"softcap": 15.0, "qk_norm": True}, "Qwen3", "softcap=15.0", "model.softcap=0.0"),
        ({"norm_place": "post"}, "Llama", "norm_place=post", "model.norm_place=pre"),
        ({"positions": "alibi"}, "Llama", "positions=alibi", "model.positions=rope"),
        ({"positions": "learned"}, "Llama", "positions=learned", "model.positions=rope"),
        (
            {"mixer": "mean", "positions": "none", "ffn": "none"},
            "Llama",
            "mixer=mean, positions=none, ffn=none",
            "mixer=attention",
        ),
        ({"layers": 0}, "Llama", "layers=0", "model.layers=1"),
        ({"ffn": "mine.py:Mine"}, "Llama", "ffn=mine.py:Mine", "model.ffn=swiglu"),
        (
            {**NANOCHAT, "softcap": 15.0, "x0_skip": True},
            "NanoChat",
            "x0_skip=true",
            "x0_skip=false",
        ),
        ({**GPT2, "ffn": "swiglu"}, "GPT-2", "ffn=swiglu", "model.ffn=gelu"),
        ({"scaling": "completep"}, "Llama", "scaling=completep", "model.scaling=standard"),
        (
            {"scaling": "mup", "qk_norm": True},
            "Qwen3",
            "scaling=mup",
            "model.scaling=standard",
        ),
    ],
)
def test_a_design_without_an_architecture_is_refused(change, nearest, part, advice):
    with pytest.raises(UserError) as refused:
        find_target(MODEL.but(**change))
    for words in (f"{nearest}, the nearest", part, advice):
        assert words in str(refused.value)


def test_what_is_suggested_can_be_exported():
    for change in ({"x0_skip": True, "softcap": 3.0}, {"positions": "none", "norm": "none"}):
        config = MODEL.but(**change)
        with pytest.raises(UserError) as refused:
            find_target(config)
        fields = dict(
            word.removeprefix("model.").split("=")
            for word in str(refused.value).partition(" with ")[2].split()
        )
        find_target(config.but(**fields))


def test_a_wrong_format_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="choose from hf, gguf"):
        export(tmp_path, "onnx", None)


@pytest.mark.extras
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_computes_the_same(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    folder = toy_folder(tmp_path, "bpe:300", **KINDS[kind])
    export(folder, "hf", tmp_path / "hf")
    run = load_run(folder)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not any(info[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, run.config.model.vocab_size, (2, 48), generator=generator)
    with torch.no_grad():
        ours, theirs = run.model.logits(ids), model(ids).logits
    assert (ours - theirs).abs().max() < 1e-4
    assert ours.std() > 0.1
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    words = tokenizer("We the people", return_tensors="pt")
    assert words["input_ids"][0].tolist() == start(run.tokenizer, b"We the people")
    told = model.generate(**words, max_new_tokens=20, do_sample=False)[0].tolist()
    end = run.tokenizer.eod_id
    ours = start(run.tokenizer, b"We the people")
    size = run.tokenizer.vocab_size
    for step in generate(run.model, [ours], 20, stop=lambda row, id: id == end, vocabulary=size):
        ours.append(step[0])
    assert told == ours


@pytest.mark.extras
@pytest.mark.parametrize("name", ["char", "byte", "bpe:300", "cl100k"])
def test_autotokenizer_gives_the_same_ids(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    folder = toy_folder(tmp_path, name, width=8, heads=2, layers=1, ffn_width=8)
    export(folder, "hf", tmp_path / "hf")
    ours = load_run(folder).tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert theirs.eos_token_id == theirs.bos_token_id == theirs.pad_token_id == ours.eod_id
    for text in STRINGS:
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert ids == ours.encode(text.encode()).tolist(), text
        assert theirs(text)["input_ids"] == [ours.eod_id, *ids]
        assert theirs.decode(ids) == text


@pytest.mark.extras
def test_compact_vocabularies_say_that_they_have_no_tokenizer_json(tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = toy_folder(tmp_path, "cl100k-compact")
    said = export(folder, "hf", tmp_path / "hf")
    assert "no tokenizer.json can spell cl100k-compact" in said[1]
    assert (tmp_path / "hf/tokenizer/mytnano_tokenizer.json").is_file()
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
