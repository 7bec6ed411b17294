"""Small texts, configs and models that several tests use."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from mytnano.config import ModelConfig, RunConfig, role
from mytnano.designs.rungs import ROOT, RUNGS, design, difference
from mytnano.measure.markov import MarkovSource, markov_source
from mytnano.model.transformer import Transformer
from mytnano.text.batches import tokens_per_window
from mytnano.text.corpus import Corpus
from mytnano.text.stream import Stream, encode_split
from mytnano.text.vocabulary import ByteTokenizer, Tokenizer
from mytnano.training.text import Text

NO_CACHE = Path("/nonexistent")
"""The toys' tokenizers are fast, so that nothing is cached."""

WORDS = b"people union state law peace war treaty public money trade labor land right year".split()


class TableTokenizer(Tokenizer):
    """The given tokens, taken greedily from the left; only for text that they can spell."""

    fast = True

    def __init__(self, tokens: list[bytes]) -> None:
        super().__init__("table", tokens)
        self.ids = {token: id for id, token in enumerate(tokens)}
        self.longest = max(map(len, tokens))

    def encode(self, text: bytes):
        ids, place = [], 0
        while place < len(text):
            sizes = range(min(self.longest, len(text) - place), 0, -1)
            size = next(s for s in sizes if text[place : place + s] in self.ids)
            ids.append(self.ids[text[place : place + size]])
            place += size
        return torch.tensor(ids, dtype=torch.int32).numpy()

    def description(self) -> dict:
        return {}


def words(documents: int, length: int, seed: int = 0) -> list[bytes]:
    """Documents of about ``length`` bytes: English words in an order that only a hash knows."""
    texts = []
    for document in range(documents):
        text, place = b"", 0
        while len(text) < length:
            digest = hashlib.sha256(f"{seed}|{document}|{place}".encode()).digest()
            text += b" ".join(WORDS[byte % len(WORDS)] for byte in digest) + b". "
            place += 1
        texts.append(text[:length])
    return texts


def markov_splits(
    order: int, alphabet: bytes, train: int, test: int = 40_000, seed: int = 3, spread: float = 0.5
):
    """A source and (train, validation, test) documents of 4000 bytes, sizes in bytes."""
    source = markov_source(order, seed, alphabet, spread)
    sizes = (train, test, test)
    return source, [source.documents(max(1, n // 4000), 4000, i) for i, n in enumerate(sizes)]


def random_bytes_source():
    """Uniform random bytes: exactly 8 bits per byte, whatever the model."""
    return MarkovSource(bytes(range(256)), 0, np.full((1, 256), 1 / 256))


def kept_bytes(cache):
    """Memory of what a cache keeps."""
    return sum(t.numel() * t.element_size() for kept in cache._kept.values() for t in kept)


def stream_of(documents: list[bytes], tokenizer: Tokenizer | None = None) -> Stream:
    return encode_split(documents, tokenizer or ByteTokenizer(), NO_CACHE)


def text_of(splits: list[list[bytes]], tokenizer: Tokenizer | None = None) -> Text:
    """The text of a run from (train, validation, test) documents."""
    tokenizer = tokenizer or alphabet_tokenizer(splits)
    streams = [stream_of(documents, tokenizer) for documents in splits]
    return Text(Corpus("toy", "fingerprint", *splits, []), tokenizer, *streams)


def alphabet_tokenizer(splits: list[list[bytes]]) -> Tokenizer:
    """One id for each byte that occurs, or that the prompt of samples needs."""
    used = set(b"The people ").union(*(document for split in splits for document in split))
    return TableTokenizer([bytes([byte]) for byte in sorted(used)])


def resolved(config: RunConfig, text: Text) -> RunConfig:
    """As ``mytnano.training.text.resolve``, for a text that is here already."""
    context = tokens_per_window(text.train, config.data.window_bytes)
    return config.but(model={"vocab_size": text.tokenizer.vocab_size, "context": context})


def toy_run(text: Text, steps: int, batch: int = 8, window: int = 32, **sections) -> RunConfig:
    """A run of ``steps`` steps from the ladder's root design, with fields of sections changed."""
    train = {
        "train_bytes": steps * batch * window,
        "batch_windows": batch,
        **sections.pop("train", {}),
    }
    config = ROOT.but(data={"window_bytes": window}, train=train)
    return resolved(config.but(**sections), text)


HEALTHY = {
    "width": 32, "layers": 2, "mixer": "attention", "heads": 4, "kv_heads": 2, "kernel": "flash",
    "positions": "rope", "ffn": "swiglu", "ffn_width": 88, "residual": True, "norm": "rmsnorm",
    "norm_place": "pre", "init": "zero-out",
}  # fmt: skip
"""mytNano in small."""


def factors(id: str) -> set[str]:
    """The design choices among the settings that a rung changes."""
    named = {path: path.split(".") for path in difference(id)}
    kind = lambda section, field: role(type(getattr(ROOT, section)), field)
    return {path for path, (section, field) in named.items() if kind(section, field) == "factor"}


def tiny_design(id: str, **changes) -> ModelConfig:
    """A rung's model at a size where everything can be checked by hand."""
    model = design(id).model
    small = {"width": 16, "vocab_size": 11, "context": 12, "dropout": 0.0}
    if model.ffn != "none":
        small["ffn_width"] = 24
    return model.but(**{**small, **changes})


SMALL = {**HEALTHY, "width": 16, "ffn_width": 24, "vocab_size": 11, "context": 12}
KINDS = {rung.id: tiny_design(rung.id) for rung in RUNGS.values() if rung.group == "core"}
KINDS |= {
    name: ModelConfig(**{**SMALL, **change})
    for name, change in {
        "none": {"positions": "none"},
        "learned-gqa": {"positions": "learned"},
        "alibi": {"positions": "alibi", "heads": 4},
        "alibi-explicit": {"positions": "alibi", "kernel": "explicit"},
        "mqa": {"kv_heads": 1, "kernel": "explicit"},
        "post": {"norm_place": "post", "norm": "layernorm"},
        "sandwich": {"norm_place": "sandwich"},
        "qk-norm": {"qk_norm": True},
        "no-gain": {"norm_gain": False, "embedding_norm": True},
        "x0": {"x0_skip": True},
        "value-embeddings": {"value_embeddings": True},
        "softcap": {"softcap": 5.0},
        "mean-positions": {"mixer": "mean", "positions": "learned", "kernel": "explicit"},
    }.items()
}
"""Every core rung's model, and parts that no rung has, all small."""


def rough_model(config: ModelConfig, seed: int = 0) -> Transformer:
    """A model in which every part acts: no matrix is zero, gains are not one."""
    model = Transformer(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter += 0.3 * noise
            else:
                table = name.startswith(("embedding", "position"))
                parameter.copy_(noise / (1 if table else parameter.shape[1] ** 0.5))
    return model.eval()


def random_ids(model: ModelConfig, windows: int, tokens: int | None = None, seed: int = 0):
    """(windows, tokens) ids, by default of a full window."""
    generator = torch.Generator().manual_seed(seed)
    shape = (windows, tokens or model.context)
    return torch.randint(0, model.vocab_size, shape, generator=generator)


PARTS = {
    "qk-norm": {"qk_norm": True},
    "softcap": {"softcap": 5.0},
    "no-gain": {"norm_gain": False},
    "layernorm-no-gain": {"norm": "layernorm", "norm_gain": False},
    "embedding-norm": {"embedding_norm": True},
    "sandwich": {"norm_place": "sandwich"},
    "alibi": {"positions": "alibi"},
    "x0-skip": {"x0_skip": True},
    "value-embeddings": {"value_embeddings": True},
    "all": {
        "qk_norm": True, "softcap": 5.0, "norm_gain": False, "embedding_norm": True,
        "norm_place": "sandwich", "x0_skip": True, "value_embeddings": True, "ffn": "relu2",
        "init": "modern",
    },
}  # fmt: skip
"""Parts that no rung has, as changes of a rung's model."""


def with_part(name: str, **changes) -> ModelConfig:
    """A small mytNano of three blocks with one of :data:`PARTS`."""
    return tiny_design("mytnano", **{"layers": 3, **PARTS[name], **changes})
