"""A denoiser: built once, called for many pictures. The command line is a loop around it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import checkpoints, device as devices, health, memory, methods, noise_level, streaming
from .errors import CheckpointError, UsageError
from .forecast import Forecast
from .image import Image, Metadata, Stack, View, default_axes
from .methods.base import Adaptation, Candidate, Member, Predictor, without_margin
from .networks.foreign import Foreign, LevelInput
from .noise_level import NoiseLevel
from .tile import padded
from .tiling import Tiling, checked
from .watch import Progress, TraceSink, Watch

ADAPT = ("stack", "slice")


@dataclass(frozen=True)
class Outcome:
    """How a denoised picture or stack came about.

    Attributes
    ----------
    steps, kept_step : int
        Gradient steps taken, and the one whose weights were used (0 = unadapted); of several
        adaptations the most.
    gain_db : float or None
        Gain in PSNR by the adaptation, predicted without a clean picture; of several the mean.
    reason : str
        Why that step was kept, in one line.
    warning : str or None
        What the user should know, in one line.
    seconds, seconds_adapt : float
        Whole time, but for writing and reading once more what is predicted; the adaptation's part.
    adaptations : int
        How many there were: 1, or one for each plane.
    curve : list of dict
        The losses and estimates of each step, the unadapted network first; of several adaptations
        the first one's.
    candidates : tuple of Candidate
        What the method weighed against each other, if it did; of several adaptations the first
        one's.
    """

    steps: int
    kept_step: int
    gain_db: float | None
    reason: str
    warning: str | None
    seconds: float
    seconds_adapt: float
    adaptations: int
    curve: list[dict[str, float | None]]
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Result(Outcome):
    """A denoised array and how it came about: `samples` have the shape and dtype of the input."""

    samples: np.ndarray = field(kw_only=True)


class Denoiser:
    """Denoises arrays with one network, method and setting.

    Parameters
    ----------
    method : str, optional
        A name of `denoise_cli.methods.METHODS`; by default ``auto``, or with `weights` the first
        method that they support besides ``none``.
    weights : str or path, optional
        A checkpoint's name or ``.safetensors`` file; by default the method's own.
    steps : int, optional
        Adaptation steps; by default the method's.
    options : mapping, optional
        Further options of the method, by name.
    device, precision : str
        ``auto``, or as on the command line.
    tile : int or "auto"
        Side of the tiles predicted at a time; 0 for the whole picture at once.
    overlap : int
        What neighboring tiles share at least, in pixels.
    seed : int
        Of everything random; every call starts from it.
    strength : float
        0 gives the input back, 1 the denoised picture, in between a blend.
    max_memory : int, optional
        Bytes of main memory to stay below while predicting, by tiles that are small enough.
    noise : str, optional
        What is known of the noise, such as ``gaussian:25`` (sigma on the 0..255 scale of the
        type's range), ``poisson:30`` or ``poisson-gaussian:0.01,0.0004``; by default the level is
        estimated from each picture. For methods and networks that make use of it.

    Raises
    ------
    UsageError
        If an argument is unknown or out of range, or nothing makes use of `noise`.
    CheckpointError
        If the weights cannot be loaded or do not support the method.
    """

    def __init__(
        self,
        method: str | None = None,
        *,
        weights: str | None = None,
        steps: int | None = None,
        options: Mapping[str, Any] | None = None,
        device: str = "auto",
        precision: str = "auto",
        tile: int | str = "auto",
        overlap: int = 64,
        seed: int = 0,
        strength: float = 1.0,
        max_memory: int | None = None,
        noise: str | None = None,
    ) -> None:
        options = dict(options or {})
        if steps is not None:
            options["steps"] = steps
        if method is None:
            method = checkpoints.default_method(weights)
        self.method = method
        self.method_options = methods.load_method(method, options)
        side = checked(tile, overlap)  # before weights are fetched
        if not 0 <= strength <= 1:
            raise UsageError(f"strength must be between 0 and 1, not {strength}")
        if seed < 0:
            raise UsageError(f"seed must be 0 or more, not {seed}")
        self.seed, self.strength = seed, strength
        self._device = devices.resolve(device, precision)
        self.device, self.precision = self._device.name, self._device.precision
        checkpoint = checkpoints.load(weights or checkpoints.default_for(method))
        if not getattr(self.method_options, "any_network", False):
            _check_support(checkpoint, method)
        self.weights = checkpoint.name
        self._standardization, self._header = checkpoint.standardization, checkpoint.metadata
        self._network = self._placed(checkpoint.network)
        tile_bytes = int(getattr(self._network, "tile_bytes", memory.TILE_BYTES))
        self._tiling = Tiling(
            side,
            overlap,
            max_memory=max_memory,
            bytes_per_pixel=tile_bytes,
            device=self._device,
        )
        # What was measured of memory holds for one pass at a time; networks of others may keep
        # something of a pass until the next.
        alone = max_memory is not None or isinstance(self._network, Foreign)
        self._side_by_side = not alone and tile_bytes <= memory.TILE_BYTES
        self._is_gray = checkpoint.network.config["channels"] == 1  # type: ignore[index]
        self._takes_noise = getattr(self.method_options, "takes_noise", False)
        self._noise = None if noise is None else self._told(noise)
        further = getattr(self.method_options, "networks", ())
        self._members = {name: self._member(name) for name in further}

    def _placed(self, network: nn.Module) -> Any:
        return network.to(  # type: ignore[call-overload]
            self._device.torch, memory_format=torch.channels_last
        )

    def _member(self, name: str) -> Member:
        """A further network of the method, on the device."""
        checkpoint = checkpoints.load(name)
        own, its = self._standardization, checkpoint.standardization
        return Member(
            self._placed(checkpoint.network),
            normalize=lambda pictures: its.forward(own.inverse(pictures)),
            restore=lambda pictures: own.forward(its.inverse(pictures)),
        )

    def _told(self, noise: str) -> NoiseLevel | str:
        """The level that `noise` names on 0..1, or `noise` itself if it names another kind."""
        level = noise_level.known(noise)
        if not (self._takes_noise or isinstance(self._network, LevelInput)):
            raise UsageError(
                f"neither the method {self.method!r} nor the weights {self.weights!r} make use of "
                "what is known of the noise; leave noise away, or use the method gaintuning"
            )
        return noise if level is None else level

    def __call__(self, samples: np.ndarray, axes: str | None = None) -> np.ndarray:
        """Denoise `samples`; the result has the same shape and dtype.

        Parameters
        ----------
        samples : ndarray
            Integers or floats of any range.
        axes : str, optional
            A letter for each axis: Y X, S (color samples), C (channels), Z, T. By default 2-D
            arrays are ``YX`` and 3-D arrays with up to 4 samples last ``YXS``.

        Raises
        ------
        UsageError
            If the axes do not fit the array, or it holds NaN or infinite values.
        """
        return self.run(samples, axes).samples

    def run(
        self,
        samples: np.ndarray,
        axes: str | None = None,
        *,
        view: View | None = None,
        progress: Progress | None = None,
        trace: TraceSink | None = None,
    ) -> Result:
        """Denoise `samples` and say how; see `__call__`.

        With `view`, as `read` gives it in the metadata of a camera raw file, what it shows of
        the samples is denoised, and the result brought back to them.
        """
        stack = Stack.of(Image(samples, axes or default_axes(samples), Metadata(view=view)))
        found: list[np.ndarray] = []
        outcome = self.stream(
            stack,
            lambda denoised: found.append(denoised.read().samples),
            progress=progress,
            trace=trace,
        )
        return Result(samples=found[0], **vars(outcome))

    def stream(
        self,
        stack: Stack,
        use: Callable[[Stack], None],
        *,
        axes: str | None = None,
        adapt: str = "stack",
        adapted: Callable[[Adaptation], None] | None = None,
        progress: Progress | None = None,
        trace: TraceSink | None = None,
        expect: Callable[[float], None] | None = None,
    ) -> Outcome:
        """Denoise a stack frame by frame, so that memory does not grow with its length.

        Each channel has a scale of its own, found by a first pass over the stack.

        Parameters
        ----------
        stack : Stack
            What to denoise.
        use : callable
            Takes the denoised stack, of which each frame is made when it is asked for, and asks
            for all of them in order.
        axes : str, optional
            What the dimensions are, if not what `stack` says; it keeps its own on the way out.
        adapt : str
            ``stack``: adapt once, to planes from all over the stack; ``slice``: to each plane,
            as if it were alone.
        adapted : callable, optional
            Takes each adaptation, before anything is predicted with it; see `save_adapted`.
        progress, trace
            As in `run`; of several adaptations the first is traced.
        expect : callable, optional
            Takes about how many seconds the whole will take, once the first steps show it; not
            called for what is quick, and once more if that turns out wrong by half.
        """
        if adapt not in ADAPT:
            raise UsageError(f"adapt must be {' or '.join(ADAPT)}, not {adapt!r}")
        mosaic = stack.metadata.view
        if mosaic is not None:
            image = stack.read()

            def bring_back(denoised: Stack) -> None:
                samples = mosaic.inverse(image.samples, denoised.read().samples)
                use(Stack.of(replace(image, samples=samples)))

            seen = Stack.of(Image(*mosaic.forward(image.samples)))
            return self.stream(
                seen,
                bring_back,
                adapt=adapt,
                adapted=adapted,
                progress=progress,
                trace=trace,
                expect=expect,
            )
        view = stack.with_axes(axes) if axes else stack
        # What some methods make is a prediction of the picture that they adapted to, no network.
        once = adapt == "stack" and not getattr(self.method_options, "per_picture", False)
        curves: list[list[dict[str, float | None]]] = []
        complaints: list[str] = []

        def adapt_to(noisy: np.ndarray) -> Adaptation:
            first = not curves
            forecast = None
            if expect is not None and first and self.strength:
                forecast = self._forecast(expect, noisy, planes, once=once)
            with self._computing():
                sink = trace if first else None
                observer = Watch(self._predict, noisy, progress, sink, forecast)
                adaptation = self._adapt(self._network_for(noisy), noisy, observer)
                if forecast is not None:
                    forecast.adapted(adaptation.predict)
            curves.append(observer.curve)
            if adapted is not None:
                adapted(adaptation)
            return adaptation

        def predict(adaptation: Adaptation, noisy: np.ndarray, done: int) -> np.ndarray:
            def report(phase: str, tile: int, tiles: int) -> None:
                if progress:
                    progress(phase, done * tiles + tile, planes * tiles)

            with self._computing():
                denoised = self._predict(adaptation.predict, noisy, report)
            if not complaints:  # one line is enough, whichever plane it is about
                complaints.extend(filter(None, [health.complaint(noisy[0], denoised[0])]))
            return noisy + self.strength * (denoised - noisy) if self.strength < 1 else denoised

        self._tiling.check(view, adapts=bool(getattr(self.method_options, "steps", 0)))
        planes = streaming.plane_count(view)
        work = streaming.Work(view, adapt_to, predict if self.strength else None, once=once)
        denoised = replace(view, frame=work.frame)
        use(replace(denoised.with_axes(stack.axes), metadata=stack.metadata))
        done = work.done
        gains = [adaptation.gain_db for adaptation in done if adaptation.gain_db is not None]
        kept = [adaptation.kept_step for adaptation in done]
        adapted_planes = sum(step > 0 for step in kept)
        reason = f"each of {len(done)} planes on its own, {adapted_planes} of them adapted"
        return Outcome(
            steps=max(adaptation.steps for adaptation in done),
            kept_step=max(kept),
            gain_db=sum(gains) / len(gains) if gains else None,
            reason=reason if len(done) > 1 else done[0].reason,
            warning=next(iter([*(a.warning for a in done if a.warning), *complaints]), None),
            seconds=work.seconds,
            seconds_adapt=work.seconds_adapt,
            adaptations=len(done),
            curve=curves[0],
            candidates=done[0].candidates,
        )

    def save_adapted(
        self, path: str | os.PathLike[str], adaptation: Adaptation, source: str = ""
    ) -> None:
        """Write the adapted network as a checkpoint: with the method ``none`` it does the same.

        `source` says in its header what it was adapted to.

        Raises
        ------
        UsageError
            The method makes no network of its own.
        UnwritableOutput
            The file cannot be written.
        """
        network = adaptation.predict
        if not isinstance(network, torch.nn.Module) or not hasattr(network, "config"):
            others = "; use ttt-mim, gaintuning or meta-transfer"
            mend = getattr(network, "to_save", others)
            raise UsageError(f"method {self.method!r} makes no network that can be saved{mend}")
        history = {
            "weights": self.weights,
            "method": self.method,
            "source": source,
            "steps": adaptation.steps,
            "kept_step": adaptation.kept_step,
            "gain_db": adaptation.gain_db,
        }
        supports = list(dict.fromkeys([*self._header["supports"], "none"]))
        header = {**self._header, "supports": supports, "adapted": history}
        checkpoints.save(path, network, header, half=False)  # exactly as it was used here

    def _forecast(
        self, tell: Callable[[float], None], noisy: np.ndarray, planes: int, *, once: bool
    ) -> Forecast:
        return Forecast(
            tell,
            self._predict_part,
            noisy,
            tile=self._tiling.side(noisy),
            overlap=self._tiling.overlap,
            planes=planes,
            adaptations=1 if once else planes,
        )

    def _network_for(self, noisy: np.ndarray) -> nn.Module:
        """The network; one with a noise-level input with that of `noisy`, on 0..1."""
        if not isinstance(self._network, LevelInput):
            return self._network
        level = self._noise
        if not isinstance(level, NoiseLevel):
            level = noise_level.estimate(torch.from_numpy(np.ascontiguousarray(noisy)))
        return self._network.at(level.sigma)

    def _adapt(self, network: nn.Module, noisy: np.ndarray, observer: Watch) -> Adaptation:
        generator = torch.Generator(device=self._device.torch).manual_seed(self.seed)
        known: dict[str, Any] = {}
        if self._takes_noise:
            known["noise"] = self._noise
            if isinstance(self._noise, NoiseLevel):
                standardization = self._standardization
                known["noise"] = self._noise.standardized(standardization.mean, standardization.std)
        if self._members:
            known["networks"] = self._members
        held = without_margin(self._pictures(noisy))
        adaptation: Adaptation = self.method_options.adapt(
            network, held, generator=generator, observer=observer, **known
        )
        return adaptation

    def _predict(
        self, predict: Predictor, noisy: np.ndarray, progress: Progress | None = None
    ) -> np.ndarray:
        """All planes (N, C, Y, X) on the scale of 0..1, tile by tile."""

        def report(done: int, total: int) -> None:
            if progress:
                progress("predict", done, total)

        return self._tiling.predict(partial(self._predict_part, predict), noisy, report)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        device = self._device
        with (
            device.threads(side_by_side=self._side_by_side),
            device.repeatable(),
            device.autocast(),
        ):
            yield

    def _predict_part(self, predict: Predictor, part: np.ndarray) -> np.ndarray:
        def run(plane: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                pictures = self._pictures(plane[None])
                predicted = predict(pictures.contiguous(memory_format=torch.channels_last)).float()
            result: np.ndarray = self._standardization.inverse(predicted).cpu().numpy()
            if self._is_gray:
                return result[:, 0]
            # A gray plane went in three times; what comes back is averaged.
            return result[0] if len(plane) == 3 else result[0].mean(axis=0, keepdims=True)

        network = self._network
        return padded(run, part, multiple_of=network.multiple_of, minimum=network.minimum)

    def _pictures(self, planes: np.ndarray) -> Tensor:
        """Planes as the network sees them, without a copy where none is needed.

        A network of colors sees a gray plane three times; one of gray pictures sees each channel
        as a picture of its own.
        """
        pictures = torch.from_numpy(np.ascontiguousarray(planes)).to(self._device.torch)
        if self._is_gray:
            pictures = pictures.flatten(0, 1)[:, None]
        else:
            pictures = pictures.expand(-1, 3, -1, -1)
        return self._standardization.forward(pictures)


def denoise(
    samples: np.ndarray, method: str | None = None, *, axes: str | None = None, **options: Any
) -> np.ndarray:
    """Denoise one array; build a `Denoiser` to denoise many.

    `options` are those of `Denoiser`; the result equals the command line's, byte for byte.
    """
    return Denoiser(method, **options)(samples, axes)


def _check_support(checkpoint: checkpoints.Checkpoint, method: str) -> None:
    if method not in checkpoint.supports:
        fitting = [n for n in checkpoints.names() if method in checkpoints.info(n)["supports"]]
        raise CheckpointError(
            f"weights {checkpoint.name!r} do not support the method {method!r}; "
            f"fitting are {', '.join(fitting) or 'none'}"
        )
