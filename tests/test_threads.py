"""How many threads a network takes on a CPU: one core stays free, or work goes side by side."""

import os
import threading

import numpy as np
import pytest
import torch
from helpers import noisy, photo
from torch.nn.modules.module import register_module_forward_pre_hook

import denoise_cli
from denoise_cli import device, lanes
from denoise_cli.device import resolve
from denoise_cli.training.loop import train

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.fixture
def all_cores(monkeypatch):
    """As a user has it: nothing says how many threads, torch takes all cores."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(CORES)
    yield
    torch.set_num_threads(before)


def test_one_core_stays_free(all_cores):
    with resolve("cpu").threads():
        assert torch.get_num_threads() == max(1, CORES - 1)
    assert torch.get_num_threads() == CORES


def test_the_environment_says_how_many_threads_there_are(all_cores, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(CORES))
    with resolve("cpu").threads():
        assert torch.get_num_threads() == CORES


def test_a_picture_takes_them_and_a_program_gets_its_own_back(all_cores):
    seen = {}

    def progress(phase, done, total):
        seen.setdefault(phase, set()).add(torch.get_num_threads())

    denoiser = denoise_cli.Denoiser("mpi", steps=2, device="cpu")
    denoiser.run(noisy(), progress=progress)
    assert seen == {"adapt": {max(1, CORES - 1)}, "predict": {max(1, CORES - 1)}}
    assert torch.get_num_threads() == CORES


def test_training_takes_them_too(all_cores, tmp_path):
    photo(tmp_path / "photo.png", shape=(96, 96, 3))
    seen = set()
    train(
        "supervised",
        out=tmp_path / "out.safetensors",
        data=tmp_path,
        noise="gaussian:25",
        network="dncnn",
        steps=1,
        device="cpu",
        progress=lambda *_: seen.add(torch.get_num_threads()),
    )
    assert seen == {max(1, CORES - 1)}
    assert torch.get_num_threads() == CORES


@pytest.fixture
def two_cores(all_cores, monkeypatch):
    monkeypatch.setattr(device, "_cores", lambda: 2)
    torch.set_num_threads(2)


def threads_used(denoiser, picture):
    """What it makes of the picture, and how many threads ran networks."""
    used = set()
    hook = register_module_forward_pre_hook(lambda *_: used.add(threading.get_ident()))
    try:
        return denoiser.run(picture).samples, len(used)
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("method", "options"), [("none", {}), ("ttt-mim", {"steps": 2}), ("auto", {"steps": 2})]
)
def test_two_cores_give_the_same_bytes_as_one_thread(method, options, two_cores, monkeypatch):
    clean = np.linspace(0.2, 0.8, 96)[:, None, None] * np.ones((96, 128, 3))
    picture = (clean + 0.1 * np.random.default_rng(0).standard_normal(clean.shape)).astype("f4")

    def run():
        denoiser = denoise_cli.Denoiser(
            method, options=options, tile=64, overlap=16, device="cpu", precision="fp32"
        )
        return threads_used(denoiser, picture)

    side_by_side, used = run()
    assert used >= 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    one_by_one, used = run()
    assert used == 1
    assert side_by_side.tobytes() == one_by_one.tobytes()


def test_a_limit_of_memory_is_one_for_a_single_tile(two_cores):
    denoiser = denoise_cli.Denoiser("none", tile=64, overlap=16, max_memory=10**10, device="cpu")
    assert threads_used(denoiser, noisy((96, 128, 3)))[1] == 1


def test_work_is_done_side_by_side_and_comes_in_order(two_cores):
    both = threading.Barrier(2, timeout=30)  # nobody passes alone

    def work(item):
        both.wait()
        # A lane computes as the thread that opened it does, and opens no further ones.
        state = torch.get_num_threads(), torch.is_grad_enabled(), lanes.count()
        cast = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        return item, *state, cast

    cpu = resolve("cpu", "bf16")
    with cpu.threads(side_by_side=True), cpu.autocast(), torch.no_grad():
        found = list(lanes.each(work, range(6)))
    assert found == [(item, 1, False, 1, torch.bfloat16) for item in range(6)]


def test_the_first_error_is_raised_and_little_more_is_begun(two_cores):
    begun = []

    def work(item):
        begun.append(item)
        raise ValueError(item)

    with resolve("cpu").threads(side_by_side=True):
        with pytest.raises(ValueError, match=r"^0$"):
            list(lanes.each(work, range(100)))
        assert len(begun) < 5
        assert list(lanes.each(str, range(3))) == ["0", "1", "2"]


def test_more_cores_than_two_share_the_layers(all_cores, monkeypatch):
    monkeypatch.setattr(device, "_cores", lambda: 4)
    torch.set_num_threads(4)
    with resolve("cpu").threads(side_by_side=True):
        assert (torch.get_num_threads(), lanes.count()) == (3, 1)
