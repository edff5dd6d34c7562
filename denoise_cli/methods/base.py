"""What a method is: it turns a network and one noisy picture into a predictor for that picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..windows import blank

Predictor = Callable[[Tensor], Tensor]  # (N, C, Y, X) -> (N, C, Y, X), normalized

# The share of a crop that may be blank, and the cells of its side by which others are looked for.
BLANK, CELLS = 0.25, 8
SMALLEST_SIDE = 64  # of what an error can be estimated on, in pixels


@dataclass(frozen=True)
class Candidate:
    """One of several results that a method weighs against each other.

    Attributes
    ----------
    name : str
    weight : float
        Its share in what comes out, 0..1.
    noise_left : float
        The standard deviation of what its flattest places hold, as a share of that of the noisy
        picture's.
    """

    name: str
    weight: float
    noise_left: float


@dataclass(frozen=True)
class Member:
    """A further network that a method makes use of.

    It takes and gives pictures as the method's own network sees them.

    Attributes
    ----------
    network : callable
        (N, C, Y, X) -> (N, C, Y, X), normalized; a module.
    normalize, restore : callable
        From there to what this network sees, and back.
    """

    network: Any
    normalize: Callable[[Tensor], Tensor]
    restore: Callable[[Tensor], Tensor]

    @property
    def multiple_of(self) -> int:
        """What the sides of pictures must be a multiple of."""
        multiple: int = self.network.multiple_of
        return multiple

    def __call__(self, pictures: Tensor) -> Tensor:
        return self.restore(self.network(self.normalize(pictures)).float())


@dataclass(frozen=True)
class Adaptation:
    """What a method made of a network for one picture.

    Attributes
    ----------
    predict : callable
        (N, C, Y, X) -> (N, C, Y, X), normalized; the sides are multiples the network can take.
    steps : int
        Gradient steps taken.
    kept_step : int
        The step whose weights `predict` uses; 0 = the checkpoint's own.
    gain_db : float or None
        Gain in PSNR over the unadapted network, predicted from the noisy picture alone.
    reason : str
        One line: why this step was kept.
    warning : str or None
        One line for the user, if something could not be done.
    candidates : tuple of Candidate
        What `predict` was chosen or made from, where there was a choice.
    """

    predict: Predictor
    steps: int = 0
    kept_step: int = 0
    gain_db: float | None = None
    reason: str = "the pretrained network alone"
    warning: str | None = None
    candidates: tuple[Candidate, ...] = ()


class Observer(Protocol):
    """Follows an adaptation: progress, and each step's network for a trace."""

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` steps are taken."""

    def step(
        self, step: int, predict: Predictor, reconstruct: Predictor | None, **numbers: float | None
    ) -> None:
        """The state after `step` (0 = unadapted) with its losses and score."""


class Method(Protocol):
    """A way to adapt. Methods are frozen dataclasses; their fields are their options.

    One with the class attribute ``any_network = True`` works with every network, whatever its
    checkpoint supports. One with ``takes_noise = True`` has the further argument `noise` of
    `adapt`: a `NoiseLevel` in the units of `noisy`, where the user told one; a specification that
    has no level; None where nothing is known. One with the class attribute `networks`, names of
    further checkpoints, has an argument of that name: a mapping of them to `Member`. One that takes
    long says by the class attribute `quicker` which option makes it quicker.
    """

    def adapt(
        self, network: nn.Module, noisy: Tensor, *, generator: torch.Generator, observer: Observer
    ) -> Adaptation:
        """Adapt to `noisy` (N, C, Y, X), normalized; `network` is left as it was found."""


def option(default: Any, help: str) -> Any:
    """A dataclass field that is an option of the method."""
    return field(default=default, metadata={"help": help})


def require(condition: bool, message: str) -> None:
    """Raise `UsageError` with `message` unless `condition` holds."""
    if not condition:
        raise UsageError(message)


def too_small(network: nn.Module, side: int, observer: Observer) -> Adaptation:
    """The network as it is, for a picture with less than `side` pixels on a side."""
    observer.step(0, network, None)
    return Adaptation(
        network,
        warning=f"too small to adapt to (a side under {side} pixels); "
        "the pretrained network alone was used",
    )


def random_crop(pictures: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random window (1, C, size, size) of one of `pictures` (N, C, Y, X).

    One that is not blank in many places, as in the margin of a page or an empty frame, if there is
    such a one; or else one of the least blank.
    """

    def draw(count: int) -> int:
        return int(torch.randint(count, (), generator=generator, device=generator.device))

    rows, columns = pictures.shape[-2:]
    n = draw(len(pictures))
    y, x = draw(max(rows - size, 0) + 1), draw(max(columns - size, 0) + 1)
    crop = pictures[n : n + 1, :, y : y + size, x : x + size]
    if float(blank(crop).float().mean()) > BLANK:
        cell = max(min(size, rows, columns) // CELLS, 1)
        places = _held(pictures, cell).nonzero()
        n, y, x = places[draw(len(places))].tolist()
        y, x = min(y * cell, max(rows - size, 0)), min(x * cell, max(columns - size, 0))
        crop = pictures[n : n + 1, :, y : y + size, x : x + size]
    return crop.contiguous(memory_format=torch.channels_last)


def _held(pictures: Tensor, cell: int) -> Tensor:
    """Where windows of `CELLS` cells a side are blank in few places, or as few as any (N, Y, X)."""
    some = max(cell // 2, 1)  # not every pixel is asked: of large pictures it takes long
    cells = F.avg_pool2d(blank(pictures[..., ::some, ::some]).float(), cell // some)
    window = tuple(min(CELLS, count) for count in cells.shape[-2:])
    shares = F.avg_pool2d(cells, window, 1)
    return shares <= max(BLANK, float(shares.min()))


def without_margin(pictures: Tensor) -> Tensor:
    """`pictures` (N, C, Y, X) without blank rows and columns at their edges, as pages have them.

    Of sides that all methods can adapt to, if they had such.
    """
    held = ~blank(pictures).all(dim=0)
    for dim in (-2, -1):
        where = held.any(dim=-3 - dim).nonzero()
        if len(where):
            count = pictures.shape[dim]
            first = max(min(int(where[0]), count - SMALLEST_SIDE), 0)
            last = max(int(where[-1]) + 1, min(first + SMALLEST_SIDE, count))
            pictures = pictures.narrow(dim, first, last - first)
    return pictures


@dataclass(frozen=True)
class Plain:
    """The pretrained network as it is, without adaptation."""

    def adapt(
        self, network: nn.Module, noisy: Tensor, *, generator: torch.Generator, observer: Observer
    ) -> Adaptation:
        """Return the network itself."""
        observer.step(0, network, None)
        return Adaptation(network)
