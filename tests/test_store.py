"""Fetching checkpoints, from a real server: whole and right, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from denoise_cli import checkpoints, networks, store
from denoise_cli.cli import main
from denoise_cli.errors import CheckpointError, UsageError


class Server(ThreadingHTTPServer):
    """Serves `content`; `plan` says what goes wrong with the first requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.plan: list[str] = []
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        plan = self.server.plan.pop(0) if self.server.plan else "well"
        content = self.server.content.get(self.path.rpartition("/")[2])
        if plan.isdigit() or content is None:
            self.send_error(int(plan) if plan.isdigit() else 404)
            return
        if plan == "late":
            time.sleep(1.5)
        if plan == "wrong":
            content = bytes(len(content))
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        if plan == "stalled":
            time.sleep(1.5)
        if plan in ("cut", "stalled"):
            self.close_connection = True
            return
        self.wfile.write(content[half:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def far(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest with the checkpoint `far`, which only the server has; where it will be kept."""
    torch.manual_seed(0)
    network = networks.build("mim-resunet", widths=[8, 16])
    installed, cache = tmp_path / "installed", tmp_path / "cache"
    installed.mkdir()
    source = tmp_path / "far.safetensors"
    checkpoints.save(source, network, {"network": "mim-resunet", "supports": ["none", "ttt-mim"]})
    content = source.read_bytes()
    source.unlink()
    server.content["far.safetensors"] = content
    (installed / "manifest.toml").write_text(
        f'base_url = "{server.url}/v1"\n\n[far]\nfile = "far.safetensors"\n'
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nsize = {len(content)}\n'
        'supports = ["none", "ttt-mim"]\nnoise = "gaussian:25"\n\n[far.scores]\npsnr = 30.25\n'
    )
    monkeypatch.setattr(store, "FOLDERS", (installed,))
    monkeypatch.setattr(store, "RETRIES", 0)
    monkeypatch.setenv("DENOISE_CACHE", str(cache))
    monkeypatch.delenv("DENOISE_OFFLINE")
    return cache / "far.safetensors"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, list[str]]]:
    """Run the command line here: (exit code, stdout, the lines of stderr)."""

    def run(*args: object) -> tuple[int, str, list[str]]:
        with pytest.raises(SystemExit) as exit_:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err.splitlines()

    return run


def kept(path: Path) -> list[str]:
    """What a download left in the cache, apart from locks."""
    folder = path.parent
    return (
        sorted(p.name for p in folder.glob("*") if p.suffix != ".lock") if folder.exists() else []
    )


# Fetching


def test_a_checkpoint_is_downloaded_once(server: Server, far: Path) -> None:
    progress: list[tuple[int, int]] = []
    assert store.fetch("far", progress=lambda *state: progress.append(state)) == far
    size = len(server.content["far.safetensors"])
    assert far.read_bytes() == server.content["far.safetensors"]
    assert progress[-1] == (size, size)
    assert kept(far) == ["far.safetensors"]
    loaded = checkpoints.load("far")
    assert (loaded.name, loaded.supports) == ("far", ("none", "ttt-mim"))
    assert store.fetch("far") == far
    assert server.requests == ["/v1/far.safetensors"]


def test_the_file_is_as_readable_as_any_other(far: Path) -> None:
    store.fetch("far")
    other = far.with_name("other")
    other.touch()
    assert far.stat().st_mode == other.stat().st_mode


def test_an_installed_file_goes_before_the_network(server: Server, far: Path) -> None:
    installed = store.FOLDERS[0] / "far.safetensors"
    installed.write_bytes(server.content["far.safetensors"])
    assert store.fetch("far") == installed
    installed.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"installed/far\.safetensors: damaged"):
        store.fetch("far")
    assert not server.requests


def test_the_address_can_be_changed(
    server: Server, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENOISE_WEIGHTS_URL", f"{server.url}/mirror/")
    store.fetch("far")
    assert server.requests == ["/mirror/far.safetensors"]
    far.unlink()
    monkeypatch.setenv("DENOISE_WEIGHTS_URL", "ftp://example.org")
    with pytest.raises(UsageError, match=r"ftp://example\.org"):
        store.fetch("far")


def test_a_proxy_is_honored(server: Server, far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISE_WEIGHTS_URL", "http://weights.invalid")
    monkeypatch.setenv("http_proxy", server.url)
    store.fetch("far")
    assert server.requests == ["http://weights.invalid/far.safetensors"]


def test_a_damaged_file_of_the_cache_is_fetched_anew(server: Server, far: Path) -> None:
    far.parent.mkdir()
    far.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="is damaged and downloads are off"):
        store.fetch("far", offline=True)
    assert not server.requests
    store.fetch("far")
    assert far.read_bytes() == server.content["far.safetensors"]


# Failing


def test_a_wrong_file_is_not_kept(server: Server, far: Path) -> None:
    server.plan = ["wrong"]
    with pytest.raises(CheckpointError, match=r"not the right file .*; nothing was kept"):
        store.fetch("far")
    assert kept(far) == []


def test_a_cut_connection_leaves_nothing_and_the_next_try_is_whole(
    server: Server, far: Path
) -> None:
    server.plan = ["cut"]
    with pytest.raises(CheckpointError, match="the connection broke off"):
        store.fetch("far")
    assert kept(far) == []
    store.fetch("far")
    assert far.read_bytes() == server.content["far.safetensors"]


@pytest.mark.parametrize("trouble", ["cut", "500", "503", "429"])
def test_passing_trouble_is_tried_again(
    server: Server, far: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(store, "RETRIES", 1)
    server.plan = [trouble]
    store.fetch("far")
    assert len(server.requests) == 2
    assert far.read_bytes() == server.content["far.safetensors"]


def test_lasting_trouble_is_said(server: Server, far: Path) -> None:
    server.plan = ["500"]
    with pytest.raises(CheckpointError, match="the server says 500"):
        store.fetch("far")
    assert kept(far) == []


def test_a_missing_file_is_asked_for_once(
    server: Server, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RETRIES", 3)
    server.content.clear()
    with pytest.raises(CheckpointError, match=r"/v1/far.safetensors \(the server says 404\)"):
        store.fetch("far")
    assert len(server.requests) == 1
    assert kept(far) == []


@pytest.mark.parametrize("trouble", ["late", "stalled"])
def test_a_slow_server_is_given_up(
    server: Server, far: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(store, "TIMEOUT", 0.3)
    server.plan = [trouble]
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"no answer within 0.3 s"):
        store.fetch("far")
    assert time.perf_counter() - started < 1.4
    assert kept(far) == []


def test_no_server_is_one_line(far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENOISE_WEIGHTS_URL", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"\(no connection\)") as caught:
        store.fetch("far")
    assert "\n" not in str(caught.value)


PROGRAM = """
import resource, sys
from pathlib import Path
from denoise_cli import store
from denoise_cli.cli import main
store.FOLDERS = (Path(sys.argv[1]),)
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
main(["weights", "pull", "far"])
"""


def start(disk: str = "free", stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(store.FOLDERS[0]), disk]
    return subprocess.Popen(command, text=True, stderr=stderr, env=os.environ)


def test_two_processes_download_once(server: Server, far: Path) -> None:
    server.plan = ["late"]
    processes = [start(), start()]
    errors = [process.communicate(timeout=30)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert far.read_bytes() == server.content["far.safetensors"]
    assert len(server.requests) == 1


def test_a_terminal_gets_a_progress_bar(server: Server, far: Path) -> None:
    server.plan = ["late"]  # long enough for the bar to be drawn
    master, terminal = os.openpty()
    process = start(stderr=terminal)
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # what a closed terminal answers
        while block := os.read(master, 4096):
            shown += block
    os.close(master)
    assert process.wait(timeout=30) == 0
    assert "━".encode() in shown
    assert f"far: {far}".encode() in shown.replace(b"\r\n", b"")


def test_a_full_disk_is_one_line(far: Path) -> None:
    process = start("full")
    errors = process.communicate(timeout=30)[1].splitlines()
    assert (process.returncode, len(errors)) == (1, 1), errors
    assert "cannot be stored" in errors[0]
    assert "DENOISE_CACHE" in errors[0]
    assert kept(far) == []


def test_a_cache_that_cannot_be_written_is_one_line(
    server: Server, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file in the place of the folder stops root too.
    blocked = far.parent.with_name("blocked")
    blocked.touch()
    monkeypatch.setenv("DENOISE_CACHE", str(blocked))
    with pytest.raises(CheckpointError, match="DENOISE_CACHE") as caught:
        store.fetch("far")
    assert "\n" not in str(caught.value)
    assert not server.requests


def test_a_cache_that_holds_the_file_is_only_read(server: Server, far: Path) -> None:
    far.parent.mkdir()
    far.write_bytes(server.content["far.safetensors"])
    far.parent.chmod(0o500)
    store.fetch("far")
    far.parent.chmod(0o700)
    assert [path.name for path in far.parent.iterdir()] == ["far.safetensors"]
    assert not server.requests


# Offline


def test_offline_says_what_is_missing_and_asks_nobody(
    server: Server, far: Path, tmp_path: Path, call: Callable[..., tuple[int, str, list[str]]]
) -> None:
    picture = tmp_path / "photo.png"
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(picture)
    code, out, err = call(picture, "-m", "none", "--offline")
    assert (code, out, len(err)) == (1, "", 1)
    sha256 = hashlib.sha256(server.content["far.safetensors"]).hexdigest()
    for word in ("far.safetensors", f"{server.url}/v1/far.safetensors", sha256, str(far)):
        assert word in err[0]
    assert not server.requests
    # What it says helps:
    far.parent.mkdir()
    far.write_bytes(server.content["far.safetensors"])
    assert call(picture, "-m", "none", "--offline", "-q")[0] == 0
    assert (tmp_path / "photo_denoised.png").is_file()
    assert not server.requests


def test_the_variable_is_the_same_as_the_option(
    server: Server, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENOISE_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="downloads are off"):
        checkpoints.load("far")
    assert not server.requests
    monkeypatch.setenv("DENOISE_OFFLINE", "0")
    assert checkpoints.load("far").name == "far"


def test_without_an_address_the_file_is_asked_of_the_user(far: Path) -> None:
    manifest = store.FOLDERS[0] / "manifest.toml"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(['base_url = ""', *lines[1:]]))
    with pytest.raises(CheckpointError, match="no address to download from is known") as caught:
        store.fetch("far")
    assert str(far) in str(caught.value)


# The commands


def test_denoising_downloads_what_it_needs(
    server: Server, far: Path, tmp_path: Path, call: Callable[..., tuple[int, str, list[str]]]
) -> None:
    picture = tmp_path / "photo.png"
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(picture)
    code, _, err = call(picture, "-m", "none")
    assert (code, len(err)) == (0, 1)  # no terminal, no progress
    assert len(server.requests) == 1


def test_a_pair_that_does_not_fit_is_refused(far: Path, tmp_path: Path) -> None:
    from denoise_cli import Denoiser

    network = networks.build("mim-resunet", widths=[8, 16])
    other = tmp_path / "other.safetensors"
    checkpoints.save(other, network, {"network": "mim-resunet", "supports": ["none"]})
    with pytest.raises(CheckpointError, match="fitting are far"):
        Denoiser("ttt-mim", weights=str(other))


def test_list_and_info_say_all(
    server: Server, far: Path, call: Callable[..., tuple[int, str, list[str]]]
) -> None:
    code, out, _ = call("weights", "list", "--json")
    assert code == 0
    record = json.loads(out)
    assert (record["name"], record["path"], record["imported"]) == ("far", None, False)
    assert record["scores"] == {"psnr": 30.25}
    assert "not here" in call("weights")[1]
    code, out, _ = call("weights", "info", "far")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0
    assert lines["scores.psnr"] == "30.25"
    assert lines["url"] == f"{server.url}/v1/far.safetensors"
    assert lines["path"] == "not here"
    assert not server.requests
    assert call("weights", "pull", "far", "-q") == (0, "", [])
    assert json.loads(call("weights", "info", "far", "--json")[1])["path"] == str(far)
    assert call("weights", "info", "fra")[0] == 2


def test_pull_goes_on_after_a_failure(
    server: Server, far: Path, call: Callable[..., tuple[int, str, list[str]]]
) -> None:
    code, _, err = call("weights", "pull", "nothing", "far")
    assert code == 1
    assert err == ["denoise: unknown weights 'nothing'; known are far", f"far: {far}"]
    assert call("weights", "pull", "nothing")[0] == 2
    assert call("weights", "pull", "far", "--offline")[0] == 0
    assert len(server.requests) == 1


def test_verify_finds_damage(far: Path, call: Callable[..., tuple[int, str, list[str]]]) -> None:
    assert call("weights", "verify") == (0, "far: not here\n", [])
    store.fetch("far")
    assert call("weights", "verify", "far") == (0, f"far: right ({far})\n", [])
    far.write_bytes(far.read_bytes()[:-1])
    code, out, err = call("weights", "verify")
    assert (code, out, len(err)) == (1, "", 1)
    assert err[0].startswith(f"denoise: {far}: damaged")
    assert "denoise weights pull far" in err[0]


def test_path_and_remove(far: Path, call: Callable[..., tuple[int, str, list[str]]]) -> None:
    assert call("weights", "path") == (0, f"{far.parent}\n", [])
    assert call("weights", "remove", "far")[0] == 2
    store.fetch("far")
    assert call("weights", "remove", "far")[0] == 0
    assert kept(far) == []


def test_an_installed_checkpoint_is_not_removed(
    server: Server, far: Path, call: Callable[..., tuple[int, str, list[str]]]
) -> None:
    installed = store.FOLDERS[0] / "far.safetensors"
    installed.write_bytes(server.content["far.safetensors"])
    code, _, err = call("weights", "remove", "far")
    assert (code, len(err)) == (2, 1)
    assert "belongs to the installation" in err[0]
    assert installed.is_file()


def test_the_cache_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DENOISE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.cache_folder().name == "denoise"
    if sys.platform == "linux":
        assert store.cache_folder() == tmp_path / "denoise"
