"""A cache is whole or absent, and a damaged one is never believed."""

import errno
import os

import pytest

from mytnano.errors import UserError
from mytnano.text import cache as files


def test_cache_round_trip(tmp_path):
    path = tmp_path / "deep" / "a.bin"
    files.write_cache(path, b"payload")
    assert files.read_cache(path) == b"payload"
    files.write_cache(path, b"")
    assert files.read_cache(path) == b""
    assert os.listdir(path.parent) == ["a.bin"]


@pytest.mark.parametrize("position", [0, 20, -1])
def test_any_flipped_byte_is_noticed(tmp_path, position):
    path = tmp_path / "a.bin"
    files.write_cache(path, b"payload")
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert files.read_cache(path) is None


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "a.bin"
    files.write_cache(path, b"payload")
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert files.read_cache(path) is None
    assert files.read_cache(tmp_path / "absent") is None
    assert files.read_cache(tmp_path) is None


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    files.write_cache(path, b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(UserError, match="space"):
            files.write_cache(path, b"new")
    assert files.read_cache(path) == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError):
        files.write_cache(tmp_path / "file" / "a.bin", b"x")


def test_digest_sees_borders_and_order():
    lists = [[b"ab", b"c"], [b"a", b"bc"], [b"c", b"ab"], [b"abc"], [b"abc", b""], []]
    assert len({files.digest(documents) for documents in lists}) == len(lists)
    assert files.digest(iter([b"ab", b"c"])) == files.digest([b"ab", b"c"])
