import errno
import json
import math
import os
import shutil
import subprocess
import sys
import textwrap

import psutil
import pytest

from mytnano import files
from mytnano.errors import UserError
from mytnano.files import (
    atomic_file,
    atomic_folder,
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
)
from mytnano.runs import lock
from mytnano.runs.lock import folder_lock


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_whole_files_and_makes_the_folder(tmp_path):
    atomic_write_text(tmp_path / "a" / "b" / "t.txt", "é\n")
    assert (tmp_path / "a" / "b" / "t.txt").read_bytes() == b"\xc3\xa9\n"
    atomic_write_json(tmp_path / "j.json", {"b": [1, math.nan, -math.inf], "a": ("é", None)})
    text = (tmp_path / "j.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"b": [1, None, None], "a": ["é", None]}
    assert text.index('"b"') < text.index('"a"') and "é" in text
    assert names(tmp_path) == ["a", "j.json"]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    atomic_write_bytes(tmp_path / "atomic", b"")
    (tmp_path / "plain").write_bytes(b"")
    modes = [(tmp_path / name).stat().st_mode for name in ("atomic", "plain")]
    assert modes[0] == modes[1]


def test_an_error_in_the_block_keeps_the_old_file_and_leaves_no_other(tmp_path):
    atomic_write_bytes(tmp_path / "f", b"old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "f") as temporary:
        temporary.write_bytes(b"new")
        raise ZeroDivisionError
    assert (tmp_path / "f").read_bytes() == b"old"
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "f"):
        (tmp_path / "elsewhere" / "missing").read_bytes()
    assert names(tmp_path) == ["f"]


def test_a_folder_is_whole_or_absent(tmp_path):
    new = tmp_path / "in" / "f"
    with pytest.raises(KeyboardInterrupt), atomic_folder(new) as folder:
        (folder / "half").touch()
        raise KeyboardInterrupt
    assert not names(new.parent)
    for _ in range(2):
        with atomic_folder(new) as folder:
            (folder / "whole").touch()
        assert names(new.parent) == ["f"] and names(new) == ["whole"]
        (new / "whole").unlink()  # an empty folder is taken
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"), atomic_folder(tmp_path / "file" / "f"):
        pass


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path, monkeypatch, code):
    atomic_write_bytes(tmp_path / "f", b"old")

    def full(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=r"no space left .*/f; free some"):
        atomic_write_bytes(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_a_really_full_disk(tmp_path):
    """A file system of 64 KiB, in a mount namespace of its own that ends with the process."""
    script = textwrap.dedent(
        """
        import os, sqlite3
        from pathlib import Path
        import numpy as np
        from safetensors.numpy import save_file
        from mytnano.errors import UserError
        from mytnano.files import atomic_file, atomic_write_bytes
        folder, big = Path(os.environ["FOLDER"]), bytes(100_000)
        atomic_write_bytes(folder / "f", b"old")
        def tensors(path):
            save_file({"w": np.zeros(100_000, np.uint8)}, path)
        def table(path):
            database = sqlite3.connect(path)
            database.execute("CREATE TABLE t (b)")
            database.execute("INSERT INTO t VALUES (?)", (big,))
            database.commit()
        for write in (lambda path: path.write_bytes(big), tensors, table):
            try:
                with atomic_file(folder / "f") as temporary:
                    write(temporary)
            except UserError as error:
                assert "no space left" in str(error), error
            else:
                raise AssertionError("it fitted")
            assert (folder / "f").read_bytes() == b"old"
            for journal in folder.glob("*-journal"):
                journal.unlink()
            assert os.listdir(folder) == ["f"], os.listdir(folder)
        """
    )
    if not shutil.which("unshare"):
        pytest.skip("no unshare on this system")
    mount = 'mount -t tmpfs -o size=64k tmpfs "$FOLDER" 2>/dev/null || exit 77; "$PYTHON" -c "$0"'
    environment = {**os.environ, "FOLDER": str(tmp_path), "PYTHON": sys.executable}
    arguments = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, script]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this system lets us mount nothing")
    assert done.returncode == 0, done.stderr


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*; choose a folder that can be written"):
        atomic_write_bytes(tmp_path / "file" / "f", b"")
    with pytest.raises(UserError, match="cannot write"):
        atomic_write_bytes(tmp_path / ("n" * 300), b"")


def test_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256_file(tmp_path / "f") == files.sha256_bytes(b"abc") == known


@pytest.mark.parametrize("kernel", [True, False])
def test_lock_names_its_owner_and_ends_with_the_block(tmp_path, monkeypatch, kernel):
    if not kernel:
        monkeypatch.setattr(lock, "fcntl", None)
    held = rf"process {os.getpid()} is already working in .*; wait for it"
    for _ in range(2):
        with folder_lock(tmp_path / "new"):
            with pytest.raises(UserError, match=held), folder_lock(tmp_path / "new"):
                pass
            with folder_lock(tmp_path / "other"):
                pass
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path / "new"):
        raise ZeroDivisionError
    with folder_lock(tmp_path / "new"):
        pass


@pytest.mark.parametrize("left", ["", "garbage", "[1]", "[999999999, 0]", "[1, 12.5]"])
def test_an_owner_file_of_a_dead_process_counts_for_nothing(tmp_path, monkeypatch, left):
    monkeypatch.setattr(lock, "fcntl", None)
    (tmp_path / lock.OWNER).write_text(left)
    os.utime(tmp_path / lock.OWNER, (0, 0))
    with folder_lock(tmp_path):
        assert json.loads((tmp_path / lock.OWNER).read_text())[0] == os.getpid()
    assert names(tmp_path) == [lock.LOCK]


def test_an_owner_file_that_is_just_being_written_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    (tmp_path / lock.OWNER).touch()
    with (
        pytest.raises(UserError, match=r"process \(unknown\) is already working in"),
        folder_lock(tmp_path),
    ):
        pass
    assert names(tmp_path) == [lock.LOCK, lock.OWNER]


def test_a_living_owner_that_came_meanwhile_keeps_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    (tmp_path / lock.OWNER).write_text("[999999999, 0]")
    take_away = lock._take_away

    def late(path):
        path.write_text(json.dumps([os.getpid(), psutil.Process().create_time()]))
        take_away(path)

    monkeypatch.setattr(lock, "_take_away", late)
    held = rf"process {os.getpid()} is already working in"
    with pytest.raises(UserError, match=held), folder_lock(tmp_path):
        pass
    assert names(tmp_path) == [lock.LOCK, lock.OWNER]


def test_lock_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="choose a folder that can be written"),
        folder_lock(tmp_path / "file"),
    ):
        pass
