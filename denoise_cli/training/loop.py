"""The one training loop: batches, steps, validation, saving, resuming."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .. import checkpoints, device as devices, measured, memory, networks, noise as noises
from ..errors import CheckpointError, NotEnoughMemory, UsageError
from ..metrics import psnr
from ..normalize import Standardization
from . import parallel, preview
from .data import prefetch
from .optimizer import Optimizer
from .recipes import load_recipe
from .source import Source

T = TypeVar("T")

IMAGENET = Standardization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LOOK_EVERY = 20
VALIDATE_EVERY = 500
WARM_UP_STEPS = 100
STEPS, FINE_TUNING_STEPS = 20_000, 5_000
# A GPU is not filled by the batches that are best on a CPU.
CUDA_BATCH = 8


@dataclass(frozen=True)
class Progress:
    """What a running training reports after each step."""

    step: int
    steps: int | None
    done: float
    seconds: float
    loss: float
    patches_per_second: float
    val_psnr: float | None = None
    note: str | None = None

    @property
    def seconds_left(self) -> float:
        """Seconds until the end, at the pace so far."""
        return self.seconds * (1 / max(self.done, 1e-6) - 1)


@dataclass
class _State:
    """Everything that changes while a training runs; what ``--resume`` reads back."""

    step: int = 0
    seconds: float = 0.0
    batch: int = 0
    best: float = -math.inf
    log: list[dict[str, float]] = field(default_factory=list)


def train(
    recipe: str = "ttt-mim",
    *,
    out: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    pairs: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
    noisy: str | os.PathLike[str] | None = None,
    noise: str | None = None,
    options: Mapping[str, Any] | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int | str | None = None,
    patch: int | None = None,
    lr: float | None = None,
    network: str | None = None,
    config: Mapping[str, Any] | None = None,
    init: str | None = None,
    val: str | os.PathLike[str] | None = None,
    resume: bool = False,
    save_seconds: float = 60.0,
    workers: int = 2,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Train a checkpoint on clean photos with synthetic noise, on pairs, or on noisy pictures.

    The learning rate warms up over 100 steps and falls to zero along a cosine over `steps`
    optimizer steps or `minutes` of wall-clock time, whichever is given (by default 20,000 steps,
    5,000 from a checkpoint);
    the time counts over all parts of a run that is resumed. The weights that validate best are
    kept. The run is described in ``OUT``'s header and logged to ``OUT.csv``; ``OUT.preview.png``
    shows what it does to a held-out picture. Its state is kept in ``OUT.state`` until it ends;
    Ctrl-C and SIGTERM finish the step, save the state and raise KeyboardInterrupt. Started by
    ``torchrun``, the processes share the work; `batch` is that of each.

    Parameters
    ----------
    recipe : str
        A name of `RECIPES`.
    out : path
        The ``.safetensors`` file to write.
    data, val : path
        Folders of clean pictures (searched recursively); without `val`, up to 12 of `data` are held
        out for validation.
    pairs : tuple of path
        Folders of noisy pictures and of their clean ones, by name, instead of `data`.
    noisy : path
        A folder of noisy pictures without clean ones, instead of `data`; the recipe is then one
        that needs none, ``noise2void`` unless another is named. There is no validation.
    noise : str, optional
        A noise specification, see `denoise_cli.noise.parse`; by default the recipe's own, if any.
    options : mapping, optional
        Further options of the recipe, by name.
    batch : int or "auto"
        Patches a step. ``auto`` is the recipe's, eightfold on a GPU; it is halved when memory runs
        out.
    init : str, optional
        Name or path of a checkpoint to start from (its network and normalization are kept), or
        ``none``. By default a run for measured noise starts from ``ttt-mim``, which is most of the
        way there, others from random weights.
    resume : bool
        Go on from ``OUT.state`` with the same arguments; the same loss curve as uninterrupted.
    save_seconds : float
        How often the state is saved.
    workers : int
        Threads that make batches.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UsageError
        If an argument does not fit.
    CheckpointError
        If there is no state to resume from, or it is of another run.
    """
    if sum(source is not None for source in (data, pairs, noisy)) != 1:
        raise UsageError("training takes one of --data, --pairs and --noisy")
    if noisy is not None and recipe == "ttt-mim":
        recipe = "noise2void"
    if init is None and network is None and recipe == "ttt-mim":
        init = "ttt-mim" if (noise or "").startswith(noises.MEASURED) else None
    init = None if init == "none" else init
    resolved = devices.resolve(parallel.local_device(device), precision)
    made = load_recipe(recipe, options, patch=patch, lr=lr, network=network)
    if batch == "auto":
        batch = made.batch * (CUDA_BATCH if resolved.torch.type == "cuda" else 1)
    if batch is not None:
        made = replace(made, batch=int(batch))
    run = _Run(
        recipe=made,
        recipe_name=recipe,
        noise_spec=_noise_of(made, noise, has_clean=data is not None),
        out=Path(out),
        steps=steps if steps or minutes else FINE_TUNING_STEPS if init else STEPS,
        minutes=minutes,
        save_seconds=save_seconds,
        workers=workers,
        seed=seed,
        device=resolved,
    )
    with parallel.group(resolved), resolved.threads(), parallel.stoppable() as stop:
        run.build(config or {}, init)
        run.open(data=data, pairs=pairs, noisy=noisy, val=val)
        if resume:
            run.resume()
        run.loop(progress, stop)
    return run.out


def _noise_of(recipe: Any, noise: str | None, *, has_clean: bool) -> str | None:
    if not has_clean:
        if noise:
            raise UsageError("--noise is added to clean photos; leave it out with noisy pictures")
        return None
    if noise is None and not hasattr(recipe, "noise"):
        raise UsageError("what noise? Give --noise, such as gaussian:0-55 or measured:darks/")
    return noise if noise is not None else recipe.noise


def _in_memory(work: Callable[[], T]) -> T | None:
    """What `work` returns; None if memory ran out, of the machine or of its accelerator."""
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not memory.is_exhausted(error):
            raise
        return None


def _predict(network: nn.Module, noisy: Tensor, generator: torch.Generator) -> Tensor:
    denoised: Tensor = network(noisy)
    return denoised


@dataclass
class _Run:
    recipe: Any
    recipe_name: str
    noise_spec: str | None
    out: Path
    steps: int | None
    minutes: float | None
    save_seconds: float
    workers: int
    seed: int
    device: devices.Device
    saved_at: float = 0.0
    state: _State = field(default_factory=_State)

    def build(self, config: Mapping[str, Any], init: str | None) -> None:
        self.noise = noises.parse(self.noise_spec) if self.noise_spec else None
        torch.manual_seed(self.seed)
        if init:
            start = checkpoints.load(init)
            self.network, self.standardization = start.network, start.standardization
            self.network_name = start.metadata["network"]
        else:
            self.network_name = self.recipe.network
            arguments = getattr(self.recipe, "network_config", dict)(config)
            self.network = networks.build(self.network_name, **arguments)
            # The published network was trained on ImageNet-normalized pictures (methods of the
            # paper); one without biases must see black as 0.
            plain = self.network_name != "mim-unet"
            self.standardization = Standardization() if plain else IMAGENET
        self.init = init
        self.network.to(self.device.torch, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        getattr(self.recipe, "prepare", lambda network: None)(self.network)
        self.gradients = parallel.Gradients(self.network)
        self.optimizer = Optimizer(self.network, self.recipe.lr, self.recipe.weight_decay)
        self.state.batch = self.recipe.batch

    def open(self, **folders: Any) -> None:
        channels: int = self.network.config["channels"]  # type: ignore[index,assignment]
        multiple: int = self.network.multiple_of  # type: ignore[assignment]
        self.source = Source.open(**folders, noise=self.noise, channels=channels, multiple=multiple)
        # A network that is not simply called with noisy pictures is validated as its recipe says.
        self.recipe_predict = getattr(self.recipe, "predict", _predict)

    def _patches(self) -> Callable[[int], np.ndarray]:
        return self.source.patches(
            patch=self.recipe.patch, batch=self.state.batch, seed=self.seed, rank=parallel.rank()
        )

    def loop(self, progress: Callable[[Progress], None] | None, stop: threading.Event) -> None:
        started = time.monotonic() - self.state.seconds
        self.saved_at = time.monotonic()
        try:
            while not self._finished():
                self._steps(started, progress, stop)
        except KeyboardInterrupt:
            if not parallel.rank():
                self._save_state()
            raise
        except (MemoryError, RuntimeError) as error:
            if not memory.is_exhausted(error):
                raise
            raise NotEnoughMemory(
                "memory runs out beside the batches, as in validating; give a smaller --batch"
            ) from None

    def _steps(
        self, started: float, progress: Callable[[Progress], None] | None, stop: threading.Event
    ) -> None:
        """Steps with the present batch, until the end or until memory runs out."""
        ends = self.steps or 10**9
        batches = prefetch(self._patches(), self.state.step, ends, workers=self.workers)
        while True:
            self._set_lr()
            loss = self._step(batches)
            if loss is None:
                batches.close()  # frees those that wait
                self._halve_batch(progress)
                return
            self.state.step += 1
            self.state.seconds = time.monotonic() - started
            looks = self.state.step % LOOK_EVERY == 0
            alone = parallel.processes() == 1
            finished = self.state.step >= ends or ((alone or looks) and self._finished())
            # The host waits for the device only where a number is looked at.
            if looks or finished:
                self._look(loss, finished, progress)
            if finished:
                return
            if (alone or looks) and parallel.any_process(stop.is_set()):
                raise KeyboardInterrupt

    def _finished(self) -> bool:
        return parallel.any_process(self._done() >= 1)

    def _halve_batch(self, progress: Callable[[Progress], None] | None) -> None:
        if self.state.batch == 1:
            raise NotEnoughMemory(
                f"{self.device.name} has no memory for a single patch; give a smaller --patch"
            )
        self.state.batch //= 2
        self.optimizer.zero_grad()
        self.device.release()
        if progress:
            note = f"out of memory; going on with batches of {self.state.batch}"
            progress(replace(self._report(math.nan, None), note=note))

    def _look(
        self, loss: Tensor, finished: bool, progress: Callable[[Progress], None] | None
    ) -> None:
        """Check the loss, save and validate now and then, and report."""
        value = float(loss)
        if not math.isfinite(value):
            raise CheckpointError(
                f"{self.out}: the loss is no longer finite at step {self.state.step}; "
                "train with a lower --lr"
            )
        if parallel.rank():
            return
        score = None
        # Validation goes by steps, not by time, so that a resumed run keeps the same weights.
        if finished or self.state.step % VALIDATE_EVERY == 0:
            score = self._validate_and_save(value)
        if finished:
            self._state_file().unlink(missing_ok=True)
        elif time.monotonic() - self.saved_at > self.save_seconds:
            self._save_state()
            self.saved_at = time.monotonic()
        if progress:
            progress(self._report(value, score))

    def _step(self, batches: Iterator[np.ndarray]) -> Tensor | None:
        """The loss of the next batch, learned from; None if memory ran out, in any process."""
        loss = _in_memory(lambda: self._backward(next(batches)))
        if parallel.any_process(loss is None):
            return None
        self.gradients.average()
        if _in_memory(self._update) is None:
            if parallel.processes() == 1:
                return None
            # The others have taken the step: there is no way back to weights that are equal.
            raise NotEnoughMemory(
                f"process {parallel.rank()} of the training has no memory left for the optimizer; "
                "give a smaller --batch"
            )
        return loss

    def _backward(self, batch: np.ndarray) -> Tensor:
        """The loss of a batch, with its gradients in the network."""
        self.optimizer.zero_grad()
        generator = self._generator(self.state.step)
        noisy, clean = self.source.pictures(batch, generator)
        noisy, clean = self.standardization.forward(noisy), self.standardization.forward(clean)
        with self.device.autocast():
            loss: Tensor = self.recipe.loss(self.network, noisy, clean, generator)[0]
        loss.backward()
        return loss.detach()

    def _update(self) -> bool:
        # Norm-free networks meet a rare exploding batch; the paper's network never reaches this.
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return True

    def _generator(self, step: int) -> torch.Generator:
        rank = f"/{parallel.rank()}" if parallel.rank() else ""
        digest = hashlib.sha256(f"{self.seed}/{step}{rank}".encode()).digest()
        generator = torch.Generator(device=self.device.torch)
        return generator.manual_seed(int.from_bytes(digest[:7], "little"))

    def _done(self) -> float:
        by_steps = self.state.step / self.steps if self.steps else 0.0
        by_time = self.state.seconds / (60 * self.minutes) if self.minutes else 0.0
        return max(by_steps, by_time)

    def _set_lr(self) -> None:
        warm = min(1.0, (self.state.step + 1) / WARM_UP_STEPS)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self._done())))
        self.optimizer.scale_lr(warm * cosine)

    @torch.no_grad()
    def _validate(self) -> float | None:
        scores = []
        self.network.eval()
        for index, batch in enumerate(self.source.held_out):
            generator = self._generator(-1 - index)
            noisy, clean = self.source.pictures(batch, generator)
            with self.device.autocast():
                seen = self.standardization.forward(noisy)
                denoised = self.recipe_predict(self.network, seen, generator).float()
            pictures = (noisy, self.standardization.inverse(denoised), clean)
            arrays = [picture[0].cpu().numpy() for picture in pictures]
            scores.append(psnr(arrays[2], arrays[1]))
            if index == 0:
                preview.write(self.out.with_suffix(".preview.png"), arrays)
        self.network.train()
        return float(np.mean(scores)) if scores else None

    def _validate_and_save(self, loss: float) -> float | None:
        """Score the network, keep it if it is the best yet, and write the log."""
        score = self._validate()
        row = {"step": self.state.step, "seconds": round(self.state.seconds, 1), "loss": loss}
        self.state.log.append(row | ({"val_psnr": score} if score is not None else {}))
        with self.out.with_suffix(".csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", "seconds", "loss", "val_psnr"])
            writer.writeheader()
            writer.writerows(self.state.log)
        if score is None or score >= self.state.best or not self.out.exists():
            checkpoints.save(self.out, self.network, self._header(score))
            self.state.best = self.state.best if score is None else score
        return score

    def _save_state(self) -> None:
        state_file = self._state_file()
        temporary = state_file.with_suffix(".part")
        torch.save(
            {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "state": asdict(self.state),
                "arguments": self._arguments(),
            },
            temporary,
        )
        os.replace(temporary, state_file)

    def resume(self) -> None:
        state_file = self._state_file()
        if not state_file.is_file():
            raise CheckpointError(f"{state_file}: nothing to resume; start without --resume")
        saved = torch.load(state_file, map_location=self.device.torch, weights_only=True)
        if saved["arguments"] != self._arguments():
            raise CheckpointError(
                f"{state_file}: of a run with other arguments; give the same ones"
            )
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.state = _State(**saved["state"])

    def _state_file(self) -> Path:
        return self.out.with_suffix(".state")

    def _arguments(self) -> dict[str, Any]:
        recipe = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self.recipe).items()
        }
        recipe.pop("batch")  # what memory allows may differ from what was asked for
        return {
            "recipe": self.recipe_name,
            "options": recipe,
            "noise": self.noise_spec,
            "seed": self.seed,
            "init": self.init,
            "network": self.network_name,
        }

    def _header(self, score: float | None) -> dict[str, Any]:
        supported_by = getattr(self.recipe, "supported_by", lambda network: self.recipe.supports)
        return {
            **self._arguments(),
            "batch": self.state.batch * parallel.processes(),
            **self._measured(),
            "supports": list(supported_by(self.network)),
            "mean": list(self.standardization.mean),
            "std": list(self.standardization.std),
            "data": self.source.describe(),
            "steps": self.state.step,
            "seconds": round(self.state.seconds),
            "val_psnr": score,
            "date": date.today().isoformat(),
        }

    def _measured(self) -> dict[str, Any]:
        if isinstance(self.noise, measured.Measured):
            return {"measured": self.noise.describe()}
        return {}

    def _report(self, loss: float, score: float | None) -> Progress:
        rate = (
            self.state.step
            * self.state.batch
            * parallel.processes()
            / max(self.state.seconds, 1e-9)
        )
        return Progress(
            self.state.step, self.steps, self._done(), self.state.seconds, loss, rate, score
        )
