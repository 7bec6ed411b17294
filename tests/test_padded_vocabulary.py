"""A run of a padded vocabulary is loaded, sampled, scored and exported; its padding is never said.

mytllm-1b is padded, and so is what is trained here: mytllm-tiny, smaller, for a few steps.
"""

import json
from pathlib import Path

import pytest
import torch
from model_toys import words
from rich.console import Console
from run_toys import toy_folder
from safetensors.torch import load_file

from mytnano.designs.scale import SCALE
from mytnano.errors import UserError
from mytnano.files import atomic_write_json
from mytnano.inference.command import SampleRequest, eval_text, sample
from mytnano.inference.documents import evaluate, read_texts
from mytnano.inference.generate import GREEDY, Sampling, generate, start
from mytnano.inference.load import load_run
from mytnano.interop.command import export
from mytnano.model.sampling import sample as drawn
from mytnano.runs.store import RunFolder
from mytnano.training.alone import train_alone

MULTIPLE = 128


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run in bpe:300, padded to 384."""
    out = tmp_path_factory.mktemp("out")
    text = out / "text.txt"
    text.write_bytes(b"\n\n".join(words(30, 700)))
    config = SCALE["mytllm-tiny"].but(
        model={"width": 16, "layers": 1, "heads": 2, "kv_heads": 1, "ffn_width": 24},
        data={"corpus": str(text), "tokenizer": "bpe:300", "vocab_multiple": MULTIPLE},
        train={"train_bytes": 6 * 8 * 128},
    )
    folder = out / "runs" / "padded"
    result = train_alone(config, folder)
    RunFolder(folder, result["config_hash"]).finish()
    return folder


@pytest.fixture
def tempting(tmp_path):
    """A run whose padding is likelier than any text."""
    return load_run(toy_folder(tmp_path, "bpe:300", MULTIPLE))


def test_it_is_loaded_and_scores_again_what_it_scored(trained, tmp_path):
    run = load_run(trained)
    assert (run.tokenizer.vocab_size, run.config.model.vocab_size) == (300, 384)
    found = evaluate(run, read_texts(run, None, None, "test").documents).score
    assert found.bits_per_byte == pytest.approx(run.result["test_bpb"], rel=1e-6)
    eval_text(trained, None, None, "test", tmp_path / "x.json", True, "cpu", Console(quiet=True))
    assert json.loads((tmp_path / "x.json").read_text())["bpb"] == found.bits_per_byte


def test_another_vocabulary_is_still_refused(tmp_path):
    folder = toy_folder(tmp_path, "bpe:300", MULTIPLE)
    config = json.loads((folder / "config.json").read_text())
    for wrong in ({"vocab_multiple": 100}, {"vocab_multiple": 1}):
        config["data"] |= wrong
        (folder / "manifest.json").unlink()
        if wrong["vocab_multiple"] == 100:
            config["model"]["vocab_size"] = 400
        atomic_write_json(folder / "config.json", config)
        RunFolder(folder, "any").finish()
        with pytest.raises(UserError, match="files of different runs"):
            load_run(folder)


@pytest.mark.parametrize("how", [GREEDY, Sampling(1.0), Sampling(1.0, top_k=4, top_p=0.9)])
@pytest.mark.parametrize("cached", [True, False])
def test_padding_is_never_chosen(tempting, how, cached):
    prompts = [start(tempting.tokenizer, text) for text in (b"We the", b"peace")]
    ids = {
        id
        for step in generate(tempting.model, prompts, 60, how, cached=cached, vocabulary=300)
        for id in step.values()
    }
    assert len(ids) > 1 and max(ids) < 300
    everything = next(generate(tempting.model, prompts, 1, how, cached=cached))
    assert max(everything.values()) >= 300, "the toy tempts nobody"
    for temperature in (0, 0.8):
        assert max(drawn(tempting.model, prompts[0], 30, temperature, vocabulary=300)) < 300


@pytest.mark.parametrize("count", [1, 3])
def test_sample_prints_text(tempting, capsys, count):
    request = SampleRequest(
        tempting.folder, ("We the",), None, count, 20, Sampling(1.0), True, "cpu"
    )
    sample(request, lambda sentence: None)
    assert capsys.readouterr().out.count("We the") == count


@pytest.mark.extras
def test_the_harness_neither_writes_nor_expects_padding(tempting):
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance

    from mytnano.interop.lm_harness import MytnanoLM

    model = MytnanoLM(str(tempting.folder))
    ids = start(tempting.tokenizer, b"We the")
    new = [step[0] for step in generate(tempting.model, [ids], 3, vocabulary=300)]
    request = (("", ""), ids[1:], new)
    assert model._loglikelihood_tokens([request])[0][1], "greedy text is known as such"
    asked = Instance(
        request_type="generate_until", doc={}, arguments=("We the", {"until": []}), idx=0
    )
    model.max_gen_toks = 3
    assert model.generate_until([asked]) == [
        tempting.tokenizer.decode(new).decode(errors="replace")
    ]


def test_it_is_exported_for_transformers(trained, tmp_path):
    run = load_run(trained)
    export(trained, "hf", tmp_path / "hf")
    weights = load_file(tmp_path / "hf" / "model.safetensors")
    assert len(weights["model.embed_tokens.weight"]) == 384
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["vocab_size"] == 384
    generation = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert generation["suppress_tokens"] == list(range(300, 384))
    assert generation["eos_token_id"] == run.tokenizer.eod_id == 299
    assert "300 ids, padded to 384" in (tmp_path / "hf" / "README.md").read_text()


@pytest.mark.extras
def test_it_is_exported_for_llama_cpp_with_a_token_for_every_row(trained, tmp_path):
    gguf = pytest.importorskip("gguf")
    said = export(trained, "gguf", tmp_path / "model.gguf")
    assert "last 84 ids are padding" in said[1]
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    assert len(tokens) == len(types) == len(set(tokens)) == 384
    assert tokens[300] == "[PAD300]" and set(types[300:]) == {int(gguf.TokenType.UNUSED)}
    assert types[299] == gguf.TokenType.CONTROL
    assert fields["llama.vocab_size"].contents() == 384


@pytest.mark.extras
def test_transformers_writes_the_same_text(tempting, tmp_path):
    transformers = pytest.importorskip("transformers")
    export(tempting.folder, "hf", tmp_path / "hf")
    peer = transformers.AutoModelForCausalLM.from_pretrained(Path(tmp_path / "hf"))
    ids = start(tempting.tokenizer, b"We the people")
    theirs = peer.generate(torch.tensor([ids]), max_new_tokens=30, do_sample=False)[0].tolist()
    end = tempting.tokenizer.eod_id
    for step in generate(tempting.model, [ids], 30, stop=lambda row, id: id == end, vocabulary=300):
        ids.append(step[0])
    assert theirs == ids
