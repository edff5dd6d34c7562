"""Where checkpoint files come from: the wheel, a source checkout, the cache, a download.

The manifest names each file with its SHA-256; a file that is present and right is used without any
network call. ``DENOISE_CACHE`` moves the cache, ``DENOISE_WEIGHTS_URL`` the address to download
from, and with ``DENOISE_OFFLINE=1`` nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from requests import HTTPError

HERE = Path(__file__).resolve().parent
# In a wheel the weights lie inside the package; in a source checkout beside it.
FOLDERS = (HERE / "weights", HERE.parent / "weights")

TIMEOUT = 20.0  # seconds without an answer or without a byte
RETRIES = 2

Progress = Callable[[int, int], None]  # bytes done, bytes in all


def names() -> list[str]:
    """Names of all checkpoints: those of the manifest, then imported ones."""
    return [*_manifest(), *_imported()]


def info(name: str) -> dict[str, Any]:
    """What is known of the checkpoint `name` without opening it.

    For one of the manifest its entry and `url` (None where no address is set); for both kinds
    `name`, `file`, `imported`, and `path` (None where the file is not here).

    Raises
    ------
    UsageError
        If there is no checkpoint of that name.
    """
    if name in _imported():
        path = _imported()[name]
        return {"name": name, "file": path.name, "imported": True, "path": str(path)}
    entry = _entry(name)
    found = _find(entry["file"])
    known = {"name": name, **entry, "imported": False, "url": _url(entry["file"])}
    return {**known, "path": str(found) if found else None}


def default_for(method: str) -> str:
    """The first checkpoint of the manifest that supports `method`."""
    for name, entry in _manifest().items():
        if method in entry["supports"]:
            return name
    raise CheckpointError(f"no checkpoint supports the method {method!r}; give one with --weights")


def cache_folder() -> Path:
    """The folder for downloaded and imported checkpoints; it need not exist."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("DENOISE_CACHE") or user_cache_dir("denoise", appauthor=False))


def import_path(name: str) -> Path:
    """Where an imported checkpoint called `name` is kept.

    Raises
    ------
    UsageError
        If the name is taken by the manifest or cannot be a file's.
    """
    if name in _manifest():
        raise UsageError(f"the name {name!r} is taken by a checkpoint of denoise; choose another")
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise UsageError(f"the name {name!r} may hold only letters, digits, '.', '-' and '_'")
    return cache_folder() / "imported" / f"{name}.safetensors"


def is_offline() -> bool:
    """Whether ``DENOISE_OFFLINE`` forbids downloads."""
    return os.environ.get("DENOISE_OFFLINE", "").lower() not in ("", "0", "no", "false")


def fetch(name: str, *, offline: bool = False, progress: Progress | None = None) -> Path:
    """The path of the checkpoint `name`, its hash checked; downloads it where it is not here.

    Parallel calls, of other processes too, download a file once. It gets its name only after its
    hash was found right, so that a broken download leaves nothing behind.

    Raises
    ------
    UsageError
        If there is no checkpoint of that name, or the address is none.
    CheckpointError
        If it is not here and cannot be downloaded or stored; or damaged in the installation.
    """
    if name in _imported():
        return _imported()[name]
    entry = _entry(name)
    file, sha256 = entry["file"], entry["sha256"]
    installed = _find(file, FOLDERS)
    if installed:
        _check(installed, sha256, "install denoise-cli anew")
        return installed
    path = cache_folder() / file
    if _is_right(path, sha256):
        return path
    url = _url(file)
    if offline or is_offline() or not url:
        raise CheckpointError(_missing(name, entry, path, url))
    if not url.startswith(("https://", "http://")):
        raise UsageError(f"weights {name!r}: {url} is no http:// or https:// address")
    _download(name, entry, path, url, progress)
    return path


def verify(name: str) -> Path | None:
    """The file of the checkpoint `name` with its hash checked, None where it is not here.

    Of imported files no hash is known.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    if name in _imported():
        return _imported()[name]
    entry = _entry(name)
    path = _find(entry["file"])
    if path:
        remedy = f"denoise weights pull {name}" if path.parent == cache_folder() else "install anew"
        _check(path, entry["sha256"], remedy)
    return path


def remove(name: str) -> Path:
    """Delete the downloaded or imported file of the checkpoint `name`; returns its path.

    Raises
    ------
    UsageError
        If it is unknown, not here, or belongs to the installation.
    CheckpointError
        If the file cannot be deleted.
    """
    path = _imported().get(name) or cache_folder() / _entry(name)["file"]
    if not path.is_file():
        installed = _find(path.name)
        where = f"belongs to the installation ({installed})" if installed else "is not here"
        raise UsageError(f"weights {name!r}: {path.name} {where}; nothing to remove")
    try:
        path.unlink()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be removed ({error.strerror})") from None
    return path


def make_folder(folder: Path) -> None:
    """Create a folder of the cache.

    Raises
    ------
    CheckpointError
        If it cannot be created.
    """
    with _storing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _download(
    name: str, entry: dict[str, Any], path: Path, url: str, progress: Progress | None
) -> None:
    import pooch
    from filelock import FileLock
    from requests import RequestException

    pooch.get_logger().setLevel("ERROR")
    files = pooch.create(
        path.parent,
        base_url="",
        registry={path.name: f"sha256:{entry['sha256']}"},
        urls={path.name: url},
        retry_if_failed=RETRIES,
    )
    make_folder(path.parent)
    with _storing(path.parent), FileLock(path.with_name(f".{path.name}.lock")):
        # Whoever waited for the lock finds the file that the other one fetched.
        try:
            files.fetch(path.name, downloader=_Downloader(entry["size"], progress))
        except RequestException as error:
            reason = _reason(error)
            raise CheckpointError(
                f"weights {name!r}: cannot download {url} ({reason}); check the connection, "
                f"or put the file into {path.parent}"
            ) from None
        except ValueError:  # pooch's word for a wrong hash
            raise CheckpointError(
                f"weights {name!r}: {url} is not the right file (its SHA-256 is not "
                f"{entry['sha256'][:12]}...); nothing was kept"
            ) from None


class _Downloader:
    """Downloads for pooch: with time-outs, without asking again for what the server refuses."""

    def __init__(self, size: int, progress: Progress | None) -> None:
        self._size, self._done, self._progress = size, 0, progress
        self.total = 0  # pooch writes what the server says here; the manifest knows better

    def __call__(self, url: str, target: str, _: object) -> None:
        from pooch import HTTPDownloader
        from requests import HTTPError

        self.reset()
        # Temporary files are private; the cache may be shared.
        os.chmod(target, 0o666 & ~umask())
        download = HTTPDownloader(progressbar=self, timeout=TIMEOUT, chunk_size=2**16)
        try:
            download(url, target, None)
        except HTTPError as error:
            status = _status(error)
            if status < 500 and status not in (408, 429):
                raise CheckpointError(
                    f"cannot download {url} (the server says {status}); is the address right?"
                ) from None
            raise

    # What pooch asks of a progress bar
    def update(self, count: int) -> None:
        self._done += count
        if self._progress:
            self._progress(min(self._done, self._size), self._size)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        pass


def umask() -> int:
    """The permission bits that new files do not get."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def _storing(place: Path) -> Iterator[None]:
    """Say in one line what the file system refuses."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).partition("|")[0].strip()
        raise CheckpointError(
            f"{place}: the weights cannot be stored there ({reason}); free space, or name another "
            "folder with DENOISE_CACHE"
        ) from None


def _status(error: HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _reason(error: Exception) -> str:
    """Why a request failed, in a few words: the libraries' own are whole paragraphs."""
    from requests import ConnectionError, HTTPError, Timeout
    from requests.exceptions import ChunkedEncodingError, ProxyError, SSLError

    if isinstance(error, HTTPError):
        return f"the server says {_status(error)}"
    if isinstance(error, Timeout) or "timed out" in str(error):
        return f"no answer within {TIMEOUT:g} s"
    words: list[tuple[type[Exception], str]] = [
        (SSLError, "its certificate cannot be trusted"),
        (ProxyError, "the proxy does not answer"),
        (ChunkedEncodingError, "the connection broke off"),
        (ConnectionError, "no connection"),
    ]
    known = (text for kind, text in words if isinstance(error, kind))
    return next(known, str(error).partition("\n")[0])


def _missing(name: str, entry: dict[str, Any], path: Path, url: str | None) -> str:
    state = "damaged" if path.is_file() else "not here"
    why = "downloads are off" if url else "no address to download from is known"
    source = f"from {url} " if url else ""
    return (
        f"weights {name!r}: {entry['file']} is {state} and {why}; get the file {source}"
        f"(SHA-256 {entry['sha256']}) and put it at {path}"
    )


def _check(path: Path, sha256: str, remedy: str) -> None:
    actual = sha256_of(path)
    if actual != sha256:
        raise CheckpointError(
            f"{path}: damaged (SHA-256 {actual[:12]}..., not {sha256[:12]}...); {remedy}"
        )


def _is_right(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _url(file: str) -> str | None:
    base: str = os.environ.get("DENOISE_WEIGHTS_URL") or _read_manifest().get("base_url", "")
    return f"{base.rstrip('/')}/{file}" if base else None


def _find(file: str, folders: tuple[Path, ...] | None = None) -> Path | None:
    folders = folders or (*FOLDERS, cache_folder())
    return next((folder / file for folder in folders if (folder / file).is_file()), None)


def _entry(name: str) -> dict[str, Any]:
    try:
        return _manifest()[name]
    except KeyError:
        raise UsageError(f"unknown weights {name!r}; known are {', '.join(names())}") from None


def _imported() -> dict[str, Path]:
    found = sorted((cache_folder() / "imported").glob("*.safetensors"))
    known = _manifest() if found else {}
    return {path.stem: path for path in found if path.stem not in known}


def _manifest() -> dict[str, dict[str, Any]]:
    """The tables of the manifest: one a checkpoint."""
    return {name: entry for name, entry in _read_manifest().items() if isinstance(entry, dict)}


def _read_manifest() -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib  # type: ignore[no-redef]

    path = _find("manifest.toml", FOLDERS)
    if path is None:
        raise CheckpointError("the weights folder is missing; install denoise-cli anew")
    return tomllib.loads(path.read_text(encoding="utf-8"))
