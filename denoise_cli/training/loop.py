"""The one training loop: batches, steps, validation, saving, resuming."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import checkpoints, device as devices, networks, noise as noises
from ..errors import CheckpointError, UsageError
from ..metrics import psnr
from ..normalize import Standardization
from .data import Patches, load_photos, prefetch, split, to_tensor
from .optimizer import Optimizer

IMAGENET = Standardization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SAVE_SECONDS = 60.0
LOOK_EVERY = 20
WARM_UP_STEPS = 100


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


@dataclass
class _State:
    """Everything that changes while a training runs; what ``--resume`` reads back."""

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    log: list[dict[str, float]] = field(default_factory=list)


def train(
    recipe: str = "ttt-mim",
    *,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    noise: str,
    steps: int | None = None,
    minutes: float | None = None,
    batch: int | None = None,
    patch: int | None = None,
    lr: float | None = None,
    network: str | None = None,
    config: Mapping[str, Any] | None = None,
    init: str | None = None,
    val: str | os.PathLike[str] | None = None,
    resume: bool = False,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Train a checkpoint on clean photos with synthetic noise.

    The learning rate warms up over 100 steps and falls to zero along a cosine over `steps`
    optimizer steps or `minutes` of wall-clock time, whichever is given (20,000 steps by default).
    The run is described in ``OUT``'s header and logged to ``OUT.csv``; its state is kept in
    ``OUT.state`` until it ends.

    Parameters
    ----------
    recipe : str
        A name of `RECIPES`.
    data, val : path
        Folders of clean pictures (searched recursively); without `val`, up to 12 of `data` are held
        out for validation.
    out : path
        The ``.safetensors`` file to write.
    noise : str
        A noise specification, see `denoise_cli.noise.parse`.
    init : str, optional
        Name or path of a checkpoint to start from (its network and normalization are kept).
    resume : bool
        Go on from ``OUT.state`` with the same arguments; the same loss curve as uninterrupted.

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
    run = _Run(
        recipe=_recipe(recipe, batch=batch, patch=patch, lr=lr, network=network),
        recipe_name=recipe,
        noise_spec=noise,
        out=Path(out),
        steps=steps if steps or minutes else 20_000,
        minutes=minutes,
        seed=seed,
        device=devices.resolve(device, precision),
    )
    run.build(config or {}, init)
    run.load_data(Path(data), Path(val) if val else None)
    if resume:
        run.resume()
    run.loop(progress)
    return run.out


def _recipe(name: str, **overrides: Any) -> Any:
    from . import RECIPES

    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; known are {', '.join(RECIPES)}")
    module, cls = RECIPES[name].split(":")
    recipe = getattr(import_module(f".{module}", __package__), cls)()
    return replace(recipe, **{key: value for key, value in overrides.items() if value is not None})


@dataclass
class _Run:
    recipe: Any
    recipe_name: str
    noise_spec: str
    out: Path
    steps: int | None
    minutes: float | None
    seed: int
    device: devices.Device
    saved_at: float = 0.0
    state: _State = field(default_factory=_State)

    def build(self, config: Mapping[str, Any], init: str | None) -> None:
        self.noise = noises.parse(self.noise_spec)
        torch.manual_seed(self.seed)
        if init:
            start = checkpoints.load(init)
            self.network, self.standardization = start.network, start.standardization
            self.network_name = start.metadata["network"]
        else:
            self.network_name = self.recipe.network
            self.network = networks.build(self.network_name, **config)
            # The published network was trained on ImageNet-normalized pictures (methods of the
            # paper); one without biases must see black as 0.
            plain = self.network_name != "mim-unet"
            self.standardization = Standardization() if plain else IMAGENET
        self.init = init
        self.network.to(self.device.torch, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.optimizer = Optimizer(self.network, self.recipe.lr, self.recipe.weight_decay)

    def load_data(self, data: Path, val: Path | None) -> None:
        photos = load_photos(data)
        train, held_out = (photos, load_photos(val)) if val else split(photos, 12)
        self.patches = Patches(
            train, patch=self.recipe.patch, batch=self.recipe.batch, seed=self.seed
        )
        self.multiple: int = self.network.multiple_of  # type: ignore[assignment]
        self.held_out = [_centre(photo, 256, self.multiple) for photo in held_out]
        self.data = {"folder": data.name, "photos": len(train), "held_out": len(held_out)}

    def loop(self, progress: Callable[[Progress], None] | None) -> None:
        ends = self.steps or 10**9
        started = time.monotonic() - self.state.seconds
        self.saved_at = time.monotonic()
        try:
            for batch in prefetch(self.patches, self.state.step, ends):
                self._set_lr()
                loss = self._step(to_tensor(batch, self.device.torch))
                self.state.step += 1
                self.state.seconds = time.monotonic() - started
                finished = self.state.step >= ends or self._done() >= 1
                # The host waits for the device only where a number is looked at.
                if self.state.step % LOOK_EVERY == 0 or finished:
                    self._look(loss, finished, progress)
                if finished:
                    break
        except KeyboardInterrupt:
            self._save_state()
            raise

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
        score = None
        if finished or time.monotonic() - self.saved_at > SAVE_SECONDS:
            score = self._save(value)
            if finished:
                self._state_file().unlink(missing_ok=True)
            else:
                self._save_state()
            self.saved_at = time.monotonic()
        if progress:
            progress(self._report(value, score))

    def _step(self, clean: Tensor) -> Tensor:
        generator = self._generator(self.state.step)
        noisy = add_noise(self.noise, clean, generator)
        noisy, clean = self.standardization.forward(noisy), self.standardization.forward(clean)
        with self.device.autocast():
            loss, _ = self.recipe.loss(self.network, noisy, clean, generator)
        self.optimizer.zero_grad()
        loss.backward()
        # Norm-free networks meet a rare exploding batch; the paper's network never reaches this.
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    def _generator(self, step: int) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed}/{step}".encode()).digest()
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
        if not self.held_out:
            return None
        scores = []
        for index, photo in enumerate(self.held_out):
            clean = to_tensor(photo[None], self.device.torch)
            noisy = add_noise(self.noise, clean, self._generator(-1 - index))
            with self.device.autocast():
                denoised = self.network(self.standardization.forward(noisy))
            denoised = self.standardization.inverse(denoised.float())
            scores.append(psnr(clean.cpu().numpy(), denoised.cpu().numpy()))
        return float(np.mean(scores))

    def _save(self, loss: float) -> float | None:
        """Write the checkpoint and the log; the validation PSNR, if any."""
        score = self._validate()
        row = {"step": self.state.step, "seconds": round(self.state.seconds, 1), "loss": loss}
        self.state.log.append(row | ({"val_psnr": score} if score is not None else {}))
        with self.out.with_suffix(".csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", "seconds", "loss", "val_psnr"])
            writer.writeheader()
            writer.writerows(self.state.log)
        checkpoints.save(self.out, self.network, self._header(score))
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
        return {
            "recipe": self.recipe_name,
            "options": recipe,
            "noise": self.noise_spec,
            "seed": self.seed,
            "init": self.init,
            "network": self.network_name,
        }

    def _header(self, score: float | None) -> dict[str, Any]:
        return {
            **self._arguments(),
            "supports": list(self.recipe.supports),
            "mean": list(self.standardization.mean),
            "std": list(self.standardization.std),
            "data": self.data,
            "steps": self.state.step,
            "seconds": round(self.state.seconds),
            "val_psnr": score,
            "date": date.today().isoformat(),
        }

    def _report(self, loss: float, score: float | None) -> Progress:
        rate = self.state.step * self.recipe.batch / max(self.state.seconds, 1e-9)
        return Progress(
            self.state.step, self.steps, self._done(), self.state.seconds, loss, rate, score
        )


def add_noise(noise: noises.Noise, clean: Tensor, generator: torch.Generator) -> Tensor:
    """Noisy pictures for `clean` (N, C, Y, X); gray ones get the same noise in all channels.

    That is how a gray picture reaches a color network: as one plane, repeated.
    """
    noisy = noise.sample(clean, generator)
    is_gray = (clean == clean[:, :1]).flatten(1).all(dim=1)
    if is_gray.any():
        noisy[is_gray] = noise.sample(clean[is_gray, :1], generator).expand_as(noisy[is_gray])
    return noisy


def _centre(photo: np.ndarray, size: int, multiple: int) -> np.ndarray:
    rows, columns = (min(size, n) // multiple * multiple for n in photo.shape[:2])
    y, x = (photo.shape[0] - rows) // 2, (photo.shape[1] - columns) // 2
    return photo[y : y + rows, x : x + columns].copy()
