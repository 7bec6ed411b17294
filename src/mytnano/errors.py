"""The exception that the command line turns into a sentence and exit code 2, and its phrases."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Something the user can fix: the message says what is wrong and how to fix it.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """

    exit_code = 2


class RunFailed(UserError):
    """A run failed, and without it the command cannot go on; exit code 1."""

    exit_code = 1


def unknown(name: object, kind: str, known: Iterable[str]) -> UserError:
    """The error for a name that is none of those known.

    >>> str(unknown("huge", "a size", ["nano", "small"]))
    "'huge' is not a size; choose from nano, small"
    """
    return UserError(f"'{name}' is not {kind}; choose from {', '.join(known)}")


def needs(what: str, package: str, extra: str) -> UserError:
    """The error for an optional package that is not installed: ``extra`` brings it.

    >>> str(needs("GGUF", "gguf", "gguf"))
    'GGUF needs the package gguf: run `.venv/bin/pip install -c constraints.txt -e ".[gguf]"`'
    """
    return UserError(f"{what} needs the package {package}: run `{install(extra)}`")


def install(extra: str) -> str:
    """The command that installs an extra in a clone."""
    return f'.venv/bin/pip install -c constraints.txt -e ".[{extra}]"'


def brief(error: BaseException) -> str:
    """The kind of an error and the first line of its message, if it has one.

    >>> brief(ValueError("first\\nsecond"))
    'ValueError: first'
    >>> brief(KeyboardInterrupt())
    'KeyboardInterrupt'
    """
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; PyTorch says so of a CPU's in the message alone."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)
