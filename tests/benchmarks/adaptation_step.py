"""Time of one adaptation step of a 256x256 RGB picture: the shipped way against plain fp32.

Run it as ``python tests/benchmarks/adaptation_step.py``; it prints both times and their ratio.
"""

from __future__ import annotations

import copy
import time

import torch

from denoise_cli import checkpoints, device
from denoise_cli.adam import Adam
from denoise_cli.masking import patch_mask
from denoise_cli.methods.ttt_mim import TTTMIM

REPEATS = 10


def seconds_per_step(network: torch.nn.Module, where: device.Device, channels_last: bool) -> float:
    """The median time of a step, after two to warm up."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = copy.deepcopy(network).to(where.torch, memory_format=layout)
    generator = torch.Generator(device=where.torch).manual_seed(0)
    noisy = torch.rand(1, 3, 256, 256, generator=generator, device=where.torch)
    noisy = noisy.contiguous(memory_format=layout)
    optimizer = Adam(network.parameters(), lr=5e-5)
    method = TTTMIM()
    times = []
    for _ in range(REPEATS + 2):
        started = time.perf_counter()
        mask = patch_mask(1, (256, 256), method.mask_ratio, method.mask_patch, generator)
        with where.autocast():
            method._step(network, optimizer, noisy, mask)
        times.append(time.perf_counter() - started)
    return sorted(times[2:])[REPEATS // 2]


def main() -> None:
    network = checkpoints.load("ttt-mim").network
    shipped = device.resolve()
    plain = device.Device(shipped.name, "fp32")
    fast = seconds_per_step(network, shipped, channels_last=True)
    slow = seconds_per_step(network, plain, channels_last=False)
    threads = torch.get_num_threads()
    print(f"{shipped.name}, {threads} threads, AMX {torch.cpu._is_amx_tile_supported()}")
    print(f"{shipped.precision} channels_last {1000 * fast:.0f} ms")
    print(f"fp32 contiguous {1000 * slow:.0f} ms")
    print(f"ratio {slow / fast:.2f}")


if __name__ == "__main__":
    main()
