"""How long a picture will take, from the first steps taken for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from . import lanes
from .tile import spans

if TYPE_CHECKING:
    from .methods.base import Predictor

TRIAL = 256  # side of the part that is predicted to see how long the whole takes, in pixels
LARGE = 2**22  # pixels from which that pays, whatever the method
LONG = 30.0  # seconds of adaptation from which it pays, whatever the size
AGAIN = 1.5  # a forecast that turns out wrong by this factor is told again
QUICK = 0.5  # seconds: the first call of a network takes longer than others, and here it shows


class Forecast:
    """Tells how many seconds a picture will take in all, as soon as its first steps show it.

    The steps of the adaptation are timed as they are taken, and the prediction by that of a small
    part: with the unadapted predictor, where the adaptation takes long, and with the adapted one.

    Parameters
    ----------
    tell : callable
        Takes the seconds.
    predict : callable
        Predicts a part (C, Y, X) with a given predictor.
    noisy : ndarray (N, C, Y, X)
        What is adapted to.
    tile, overlap : int
        Side of the tiles, 0 for the whole plane at once, and what they share.
    planes, adaptations : int
        How many planes are predicted, and how many adaptations there will be.
    """

    def __init__(
        self,
        tell: Callable[[float], None],
        predict: Callable[[Predictor, np.ndarray], np.ndarray],
        noisy: np.ndarray,
        *,
        tile: int,
        overlap: int,
        planes: int,
        adaptations: int,
    ) -> None:
        self._tell, self._predict = tell, predict
        rows, columns = noisy.shape[-2:]
        top, left = max(rows - TRIAL, 0) // 2, max(columns - TRIAL, 0) // 2
        self._part = noisy[0, :, top : top + TRIAL, left : left + TRIAL]
        self._pixels = planes * math.prod(
            sum(stop - start for start, stop in spans(side, tile, overlap))
            for side in (rows, columns)
        )
        self._adaptations = adaptations
        self._unadapted: Predictor | None = None
        self._told: float | None = None
        self._first: tuple[int, float] | None = None
        self._done = 0
        self._paused = 0.0
        self._started = time.perf_counter()

    def unadapted(self, predict: Predictor) -> None:
        """Take note of the predictor that the adaptation starts from."""
        self._unadapted = predict

    def step(self, done: int, total: int) -> None:
        """`done` of `total` steps of an adaptation are taken."""
        now = self._seconds()
        if self._first is None or done <= self._done:  # some methods adapt more than once
            # With what comes before the steps, and slower than the others.
            self._first, self._done = (done, now), done
            return
        self._done = done
        before, then = self._first
        adapting = now + (now - then) / max(done - before, 1) * (total - done)
        if self._told is None and self._unadapted is not None and adapting > LONG:
            self._say(adapting, self._unadapted)

    def adapted(self, predict: Predictor) -> None:
        """The first adaptation is over."""
        if self._told is not None or self._pixels >= LARGE:
            self._say(self._seconds(), predict)

    def _seconds(self) -> float:
        """Time of the adaptation so far."""
        return time.perf_counter() - self._started - self._paused

    def _say(self, adapting: float, predict: Predictor) -> None:
        seconds = self._adaptations * adapting + self._predicting(predict)
        if self._told is None or not 1 / AGAIN < seconds / self._told < AGAIN:
            self._told = seconds
            self._tell(seconds)

    def _predicting(self, predict: Predictor) -> float:
        """Seconds that it takes to predict all planes."""
        started = time.perf_counter()
        took = self._try(predict)
        if took < QUICK:
            took = min(took, self._try(predict))
        self._paused += time.perf_counter() - started
        return took / math.prod(self._part.shape[-2:]) * self._pixels

    def _try(self, predict: Predictor) -> float:
        """Seconds for the part, where tiles are predicted side by side."""
        count = lanes.count()
        started = time.perf_counter()
        for _ in lanes.each(lambda part: self._predict(predict, part), [self._part] * count):
            pass
        return (time.perf_counter() - started) / count
