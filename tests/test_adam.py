"""The optimizer of adaptations is torch's Adam, without what takes a second to load."""

import copy
import subprocess
import sys

import torch

from denoise_cli.adam import Adam


def learned(make, rates) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(4, 3, generator=generator)) for _ in range(3)]
    optimizer = make(weights)
    for rate in rates:
        x = torch.randn(5, 3, generator=generator)
        optimizer.zero_grad()
        # The last weight never takes part, as the other head of a network does not.
        ((x @ weights[0].T).square().mean() + (weights[1] * x[:4]).sin().sum()).backward()
        if isinstance(optimizer, Adam):
            optimizer.lr = rate
        else:
            optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return weights


def test_it_learns_as_the_one_of_torch() -> None:
    rates = [0.1, 0.03, 0.2, 0.01, 0.1]
    ours = learned(lambda weights: Adam(weights, 0.1), rates)
    theirs = learned(lambda weights: torch.optim.Adam(weights, lr=0.1), rates)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert torch.equal(ours[2], learned(lambda weights: Adam(weights, 0), [0])[2])


def test_weights_may_lie_in_memory_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.nn.Conv2d(3, 8, 3)
    other = copy.deepcopy(first).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 9, 9, generator=generator)
    for network in (first, other):
        optimizer = Adam(network.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            network(x).sin().sum().backward()
            optimizer.step()
    torch.testing.assert_close(first.weight, other.weight, rtol=1e-3, atol=1e-4)


def test_an_adaptation_does_not_load_the_compiler() -> None:
    program = (
        "import sys, numpy, denoise_cli\n"
        "noisy = numpy.random.default_rng(0).normal(0.5, 0.1, (64, 64, 3)).astype('float32')\n"
        "for method in ('auto', 'ttt-mim', 'mpi', 'gaintuning'):\n"
        "    denoise_cli.denoise(noisy, method=method, steps=2)\n"
        "print(sorted(set(sys.modules) & {'torch', 'torch._dynamo'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "['torch']\n", done.stderr
