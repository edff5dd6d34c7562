"""What `denoise compare` and `denoise evaluate` compare: methods of ours, and baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .report import Report
from .weights import have_weights

if TYPE_CHECKING:
    from ..baselines import Baseline
    from ..denoiser import Denoiser, Result

    Competitor = Denoiser | Baseline

# The names of `denoise_cli.baselines.BASELINES`, which the help lists without importing them.
BASELINES = ("nlm", "wavelet", "bm3d")


def check(names: list[str]) -> None:
    """Refuse names that are neither methods nor baselines, before anything is loaded.

    Raises
    ------
    UsageError
        If one is unknown; the message lists what there is.
    """
    from ..methods import METHODS

    for name in names:
        if name not in METHODS and name not in BASELINES:
            known = ", ".join([*METHODS, *BASELINES])
            raise UsageError(f"unknown method {name!r}; known are {known}")


def build(
    method: str,
    weights: str | None,
    report: Report,
    *,
    offline: bool = False,
    **settings: Any,
) -> Competitor:
    """The competitor called `method`; its weights are fetched first if they are not here."""
    if method in BASELINES:
        from ..baselines import Baseline

        if settings.get("options"):
            raise UsageError(f"{method} has no options; leave -O and --steps away")
        return Baseline(method)
    have_weights(report, weights, method, offline=offline)
    from ..denoiser import Denoiser

    return Denoiser(method, weights=weights, **settings)


def record(competitor: Competitor, result: Result, scores: Mapping[str, float]) -> dict[str, Any]:
    """What --json says of a result and its `scores`, which may be none."""
    return {
        "method": competitor.method,
        "weights": competitor.weights,
        **scores,
        "seconds": result.seconds,
        "steps": result.steps,
        "kept_step": result.kept_step,
        "gain_db": result.gain_db,
    }


def split(text: str) -> list[tuple[str, str | None]]:
    """``"none,mpi:FILE"`` -> ``[("none", None), ("mpi", "FILE")]``.

    Raises
    ------
    UsageError
        If there is none, one twice, or weights for a baseline.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise UsageError("--methods names none; give some, such as none,ttt-mim,nlm")
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice:
        raise UsageError(f"--methods names {twice!r} twice; leave one out")
    found = []
    for part in parts:
        method, _, weights = part.partition(":")
        if weights and method in BASELINES:
            raise UsageError(f"{method} needs no weights; give {method} alone")
        found.append((method, weights or None))
    check([method for method, _ in found])
    return found
