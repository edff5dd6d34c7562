"""Time of one MPI step as it is taken, against plain fp32 and contiguous tensors.

    python tests/benchmarks/mpi_step.py --network hourglass --size 512 --threads 1

The plain form of the hourglass is that of the paper, whose norms are in training mode. The forms
take turns, and the least CPU time of each counts, so that other load matters little.
"""

from __future__ import annotations

import argparse
import time

import torch

from denoise_cli import device as devices, networks
from denoise_cli.adam import Adam


def step(
    network: torch.nn.Module, optimizer: Adam | torch.optim.Adam, size: int, fast: bool
) -> None:
    """A forward and backward pass and an update with random pixels."""
    layout = torch.channels_last if fast else torch.contiguous_format
    picture = torch.rand(1, 3, size, size).contiguous(memory_format=layout)
    mask = (torch.rand_like(picture) >= 0.3).float()
    with devices.resolve("cpu", "auto" if fast else "fp32").autocast():
        filled = network(torch.cat([picture * mask, mask], dim=1).contiguous(memory_format=layout))
    loss = ((filled.float() - picture) * (1 - mask)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=("hourglass", "fill-resunet"), default="hourglass")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    best = {False: float("inf"), True: float("inf")}
    runs: dict[bool, tuple[torch.nn.Module, Adam | torch.optim.Adam]] = {}
    plain, own = networks.build(arguments.network).train(), networks.build(arguments.network).eval()
    own = own.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    runs[False] = plain, torch.optim.Adam(plain.parameters(), lr=1e-3)
    runs[True] = own, Adam(own.parameters(), 1e-3)
    for _ in range(arguments.repeat):
        for fast, (network, optimizer) in runs.items():
            started = time.process_time()
            step(network, optimizer, arguments.size, fast)
            best[fast] = min(best[fast], time.process_time() - started)
    precision = devices.resolve("cpu").precision
    print(
        f"{arguments.network}, {arguments.size} x {arguments.size}: "
        f"fp32 contiguous {best[False]:.2f} s, "
        f"{precision} channels_last {best[True]:.2f} s CPU, {best[False] / best[True]:.2f} times"
    )


if __name__ == "__main__":
    main()
