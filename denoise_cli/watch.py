"""What an adaptation shows of itself while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from .forecast import Forecast
from .methods.base import Predictor

Progress = Callable[[str, int, int], None]  # (phase, done, total)


class TraceSink(Protocol):
    """Takes the state of an adaptation after each step; see `denoise_cli.trace.Trace`."""

    def region(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """The part of a picture of `shape` (Y, X) that is traced."""

    def record(
        self,
        step: int,
        denoised: np.ndarray,
        reconstruction: np.ndarray | None,
        **numbers: float | None,
    ) -> None:
        """Pictures are float (Y, X, C) on 0..1."""


class Watch:
    """Shows an adaptation to whoever asked: progress, and the trace of the first plane."""

    def __init__(
        self,
        prediction: Callable[[Predictor, np.ndarray], np.ndarray],
        noisy: np.ndarray,
        progress: Progress | None,
        trace: TraceSink | None,
        forecast: Forecast | None,
    ) -> None:
        self._prediction, self._report, self._trace = prediction, progress, trace
        self._forecast = forecast
        self.curve: list[dict[str, float | None]] = []
        if trace:
            rows, columns = trace.region((noisy.shape[-2], noisy.shape[-1]))
            self._part = noisy[:1, :, rows, columns]

    def progress(self, done: int, total: int) -> None:
        if self._report:
            self._report("adapt", done, total)
        if self._forecast:
            self._forecast.step(done, total)

    def step(
        self, step: int, predict: Predictor, reconstruct: Predictor | None, **numbers: float | None
    ) -> None:
        self.curve.append({"step": step, **numbers})
        if self._forecast and step == 0:
            self._forecast.unadapted(predict)
        if self._trace:
            denoised = self._picture(predict)
            reconstruction = self._picture(reconstruct) if reconstruct else None
            self._trace.record(step, denoised, reconstruction, **numbers)

    def _picture(self, predict: Predictor) -> np.ndarray:
        return np.moveaxis(self._prediction(predict, self._part)[0], 0, -1)
