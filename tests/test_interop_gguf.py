"""A GGUF file has the same logits, ids and greedy text; what llama.cpp has not is refused."""

import pytest
import torch
from run_toys import GPT2, toy_folder

from mytnano.errors import UserError
from mytnano.inference.generate import generate, start
from mytnano.inference.load import load_run
from mytnano.interop.command import export
from mytnano.interop.gguf_file import interleaved

KINDS = {
    "llama": {},
    "llama-tied": {"tied": True, "kv_heads": 4},
    "llama-padded": {"multiple": 128},
    "qwen3": {"qk_norm": True},
}


@pytest.mark.parametrize(
    "tokenizer, change, named",
    [
        ("bpe:300", GPT2, "GPT-2"),
        ("bpe:300", {"ffn": "relu"}, "ffn=relu"),
        ("bpe:300", {"ffn": "relu2", "qk_norm": True}, "ffn=relu2"),
        ("byte", {}, "byte"),
    ],
)
def test_what_llama_cpp_has_not_is_refused(tmp_path, tokenizer, change, named):
    with pytest.raises(UserError, match=named):
        export(toy_folder(tmp_path, tokenizer, **change), "gguf", tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_rotated_pairs_become_neighbours():
    rows = torch.arange(12.0)[:, None]  # two heads of six channels
    assert interleaved(rows, 2)[:, 0].tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


def written(tmp_path, kind):
    pytest.importorskip("gguf")
    folder = toy_folder(tmp_path, "bpe:300", **KINDS[kind])
    said = export(folder, "gguf", tmp_path / "model.gguf")
    return load_run(folder), tmp_path / "model.gguf", said


def greedy(run, prompt, tokens):
    ids = start(run.tokenizer, prompt)
    for step in generate(run.model, [ids], tokens, stop=lambda row, id: id == run.tokenizer.eod_id):
        ids.append(step[0])
    return ids


@pytest.mark.extras
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_the_same_model(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    run, file, said = written(tmp_path, kind)
    config = None
    if kind == "qwen3":
        assert "head_dim=8" in said[1]
        export(run.folder, "hf", tmp_path / "hf")
        config = transformers.AutoConfig.from_pretrained(tmp_path / "hf")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=file.name, config=config, dtype=torch.float32
    )
    ids = torch.randint(0, 300, (2, 48), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert (run.model.logits(ids) - model(ids).logits).abs().max() < 1e-4
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    for text in ("We the people don't", " € in  1789\n\n"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == run.tokenizer.encode(text.encode()).tolist()


@pytest.mark.extras
@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_writes_the_same_text(tmp_path, kind):
    llama_cpp = pytest.importorskip("llama_cpp", reason="in no extra: it is built from source")
    run, file, _ = written(tmp_path, kind)
    llama = llama_cpp.Llama(
        str(file), n_ctx=48, logits_all=True, type_k=0, type_v=0, verbose=False
    )  # type 0: keys and values in fp32
    ids = llama.tokenize(b"We the people", add_bos=True)
    assert ids == start(run.tokenizer, b"We the people")
    for _ in range(20):
        llama.reset()
        llama.eval(ids)
        ids.append(int(llama.scores[len(ids) - 1].argmax()))
        if ids[-1] == run.tokenizer.eod_id:
            break
    assert ids == greedy(run, b"We the people", 20)
