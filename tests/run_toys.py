"""A finished run folder of any tiny design, with rough weights instead of trained ones."""

from pathlib import Path

from model_toys import HEALTHY, rough_model
from safetensors.torch import save_file

from mytnano.config import RunConfig
from mytnano.files import atomic_write_json
from mytnano.runs.store import RunFolder
from mytnano.text.tokenizers import build_tokenizer
from mytnano.text.vocabulary import padded

TEXT = (
    b"We the people of the Union, in 1789 and in 2024, don't agree.\n\n  Peace \xe2\x82\xac5!\n"
    * 40
)

GPT2 = {"positions": "learned", "norm": "layernorm", "ffn": "gelu", "kernel": "explicit"}


def toy_folder(folder: Path, tokenizer: str = "bpe:300", multiple: int = 1, **model) -> Path:
    """Write and seal it; what pads its vocabulary to a multiple is likelier than any text."""
    made = build_tokenizer(tokenizer, [TEXT], folder / "cache")
    config = RunConfig().but(
        data={"corpus": "toy", "tokenizer": tokenizer, "vocab_multiple": multiple},
        model={**HEALTHY, "context": 48, "vocab_size": padded(made.vocab_size, multiple), **model},
    )
    run = folder / "runs" / "toy-s0"
    run.mkdir(parents=True)
    made.save(run / "tokenizer")
    weights = {n: p.detach() for n, p in rough_model(config.model, seed=1).named_parameters()}
    for name in weights.keys() & {"embedding.weight", "head.weight"}:
        weights[name][made.vocab_size :] *= 20
    save_file(weights, run / "model.safetensors")
    atomic_write_json(run / "config.json", config.model_dump())
    result = {"test_bpb": 2.5, "validation_bpb": 2.4, "params": 12345, "status": "healthy"}
    atomic_write_json(run / "result.json", result)
    RunFolder(run, config.hash).finish()
    return run
