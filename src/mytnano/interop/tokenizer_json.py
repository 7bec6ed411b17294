"""Our vocabularies as a ``tokenizer.json`` with the same ids, for AutoTokenizer and its peers.

The end-of-document becomes the one special token and, as with Llama, is put before every text
unless ``add_special_tokens=False``: a document starts with it in training.
"""

from __future__ import annotations

from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors

from mytnano.errors import UserError
from mytnano.text.bpe import END_OF_DOCUMENT, HUGGINGFACE, byte_characters
from mytnano.text.vocabulary import CharTokenizer, Tokenizer

CL100K_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s+\z|\s*[\r\n]|\s+(?!\S)|\s"
)
"""tiktoken's pattern as this library's engine reads it, whose ``{1,3}+`` repeats and is not
possessive, and whose ``$`` is the end of a line. No alternative could give back what it took, so
the pieces are the same.
"""


def why_none(tokenizer: Tokenizer) -> str | None:
    """Why a vocabulary has no ``tokenizer.json``, in a sentence; None if it has one."""
    if tokenizer.name != "cl100k-compact":
        return None
    return (
        "no tokenizer.json can spell cl100k-compact, which cuts text by the whole of cl100k and "
        "then spells left-out tokens in bytes: get ids from "
        "mytnano.text.tokenizers.load_tokenizer, whose files are in tokenizer/"
    )


def library_tokenizer(tokenizer: Tokenizer, folder: Path) -> tokenizers.Tokenizer:
    """The vocabulary in Hugging Face ``tokenizers``.

    Args:
        folder: where the tokenizer was saved; a BPE's merges are read from there.

    Raises:
        UserError: there is none; see :func:`why_none`.
    """
    if reason := why_none(tokenizer):
        raise UserError(reason)
    if isinstance(tokenizer, CharTokenizer):
        made = _characters(tokenizer)
    elif tokenizer.name.startswith("bpe:"):
        made = tokenizers.Tokenizer.from_file(str(folder / HUGGINGFACE))
    elif tokenizer.name == "byte":
        made = _bytes()
    else:
        made = _cl100k(tokenizer)
    made.add_special_tokens([AddedToken(END_OF_DOCUMENT, normalized=False)])
    end = (END_OF_DOCUMENT, tokenizer.eod_id)
    if made.token_to_id(END_OF_DOCUMENT) != tokenizer.eod_id:
        raise RuntimeError(f"the end-of-document is id {made.token_to_id(END_OF_DOCUMENT)}")
    made.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_DOCUMENT} $A",
        pair=f"{END_OF_DOCUMENT} $A {END_OF_DOCUMENT} $B",
        special_tokens=[end],
    )
    return made


def tokenizer_config(context: int) -> dict:
    """The content of ``tokenizer_config.json``.

    Text that spells the end-of-document is text, as it is here (``split_special_tokens``).
    """
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_DOCUMENT,
        "eos_token": END_OF_DOCUMENT,
        "pad_token": END_OF_DOCUMENT,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
        "model_max_length": context,
    }


def _characters(tokenizer: CharTokenizer) -> tokenizers.Tokenizer:
    """A BPE without merges: characters, and the bytes of those that the vocabulary has not."""
    names = [*tokenizer.characters, *(f"<0x{value:02X}>" for value in range(256))]
    vocabulary = {name: id for id, name in enumerate(names)}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return made


def _bytes() -> tokenizers.Tokenizer:
    """A byte-level BPE without merges."""
    vocabulary = {character: value for value, character in enumerate(byte_characters())}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def _cl100k(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """Ranks of tokens as merges: every way to make a token of two, in the order of its rank."""
    spelled = byte_characters()
    tokens = [tokenizer.token_bytes(id) for id in range(tokenizer.eod_id)]
    ranks = {token: id for id, token in enumerate(tokens)}
    names = ["".join(spelled[byte] for byte in token) for token in tokens]
    merges = []
    for token in tokens:
        cuts = ((token[:i], token[i:]) for i in range(1, len(token)))
        pairs = [(ranks[a], ranks[b]) for a, b in cuts if a in ranks and b in ranks]
        merges += [(names[a], names[b]) for a, b in sorted(pairs)]
    vocabulary = {name: id for id, name in enumerate(names)}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CL100K_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    return made
