"""How many threads a network takes on a CPU: one core stays free."""

import os

import pytest
import torch
from helpers import noisy, photo

import denoise_cli
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
