"""Names of files that are being written, and what killed processes left of them."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

NAME = re.compile(r"\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.part(\.\w+)?")


def beside(target: Path) -> Path:
    """A new hidden name in the folder of `target`, with its suffix; says whose file it is."""
    owner = f"{_machine()}-{os.getpid()}"
    return target.with_name(f".{owner}-{secrets.token_hex(4)}.part{target.suffix}")


@contextmanager
def moved_into(target: Path) -> Iterator[Path]:
    """A name to write to, which becomes `target` once the block is done, and is gone otherwise."""
    temporary = beside(target)
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what processes of this machine that are gone left half-written in `folder`.

    A killed process (SIGKILL, a power cut) cannot do so itself. Files of living processes and of
    other machines, which may share the folder, are left alone, and so are folders.

    Returns
    -------
    list of Path
        What was removed; nothing where the folder does not exist or may not be changed.
    """
    removed = []
    try:
        for path in folder.iterdir():
            match = NAME.fullmatch(path.name)
            gone = match and match[1] == _machine() and not _is_alive(int(match[2]))
            if gone and path.is_file():
                path.unlink(missing_ok=True)
                removed.append(path)
    except OSError:
        pass  # nothing that the outputs themselves will not meet, and say
    return removed


@cache
def _machine() -> str:
    """Eight letters for this machine, or this container: process numbers are its own."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbers = ""
    return hashlib.sha256(f"{platform.node()}/{numbers}".encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # elsewhere os.kill asks nothing, it kills
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
