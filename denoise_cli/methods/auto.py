"""Automatic: which network is decided by what each leaves, and it is tuned to the noise it met."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import collaborative, details, lanes, noise_kind, resampling
from ..noise_level import NoiseLevel
from ..orientation import ORIENTATIONS, turned, turned_back
from ..validation import noise_bound
from ..views import Shown, View
from ..windows import blank
from .base import (
    SMALLEST_SIDE,
    Adaptation,
    Candidate,
    Member,
    Observer,
    Predictor,
    option,
    random_crop,
    require,
)
from .clearing import cleared, like
from .estimates import WEAK_NOISE, has_impulses
from .look import LOOKED_AT, Look
from .ttt_mim import TTTMIM

BUDGETS = ("fast", "balanced", "best")
DEFAULT, GAUSSIAN, GRAIN = "ttt-mim", "ttt-mim-gaussian", "ttt-mim-grain"
# All limits were chosen on held-out training photos under known noise. The first network knows the
# noise of which it leaves at most a tenth of the variance in the flattest places.
KNOWN = 0.1
# Adapted, a network smooths more: that it leaves less must be plain to see. The one for white noise
# may leave more of it in flat places: up to three times as much where it is better by 0.1 dB.
LEFT_BY_ADAPTED, MORE_LEFT = 0.5, 4.0
# Tuned to what it wrongly took for noise, a network takes detail away, or leaves the noise. It is
# not used where it leaves half of the variance. Where it removes a quarter more energy than before,
# as of noise that was passed over, or leaves twice as much as before and no longer knows the noise,
# it only joins the mean: of 73 training photos under many kinds of noise, the 31 of which it took
# or left more then gained 0.05 dB on average, and lost 0.12 at most.
REMOVED, LEFT_BY_TUNED, MORE_LEFT_BY_TUNED = 1.25, 0.5, 2.0
PARTS, LOOK_EVERY = 4, 20
# Noise that is moved is not known so well, and is learned from with longer steps than drawn noise.
# The network for white noise has little to learn about one picture: in two fifths of the steps as
# much as in all of them.
LR, MOVED_LR, WHITE_LR, WHITE_STEPS = 1.5e-4, 2e-4, 5e-5, 0.4
# The orientations of a mean, the first four as different as can be. Four passes of one network gain
# 0.1 to 0.2 dB on all kinds of noise, eight 0.01 to 0.02 more: worth it for the result alone, not
# for the estimate that the network is tuned to.
SPREAD = (0, 7, 2, 5, 1, 3, 4, 6)
PASSES = 4


@dataclass(frozen=True)
class Auto:
    """Take the network that knows the noise, and tune it to what it takes away.

    The network `ttt-mim` knows most kinds of noise: where it leaves at most a tenth of the noise's
    variance in the flattest places. Another one, `ttt-mim-gaussian`, knows white noise alone. Where
    the noise is white and the same everywhere, that one is taken, which denoises it 0.2 dB better.
    To noise that the first does not know the second is adapted by TTT-MIM, with the estimate of the
    error that can refuse it (see `TTTMIM`); the two are averaged where that then leaves at most
    half of what the first does. It is not where flat places hold texture (`denoise_cli.texture`).
    Grain, which is correlated between pixels and the same in all colors, another network knows
    better, `ttt-mim-grain`: it then takes the place of the first (`denoise_cli.grain`).
    Impulses only the first knows, and those among other noise none of them: these are filled in
    before anything else (`denoise_cli.impulses`), and so are hot pixels that demosaicing has spread
    (`denoise_cli.hot_spots`). Nor do they know bands: what whole rows or columns have in common in
    the noise is taken away (`denoise_cli.stripes`). Noise that spreads over several pixels the
    first knows at half the size; where it plainly knows it there alone, what it takes away of the
    small picture is taken away first (`denoise_cli.coarse`). The colors of a sensor's mosaic are
    set aside, and put back at the end (`denoise_cli.bayer`).

    The result is the mean of four passes for which the picture is turned or mirrored. Noise that
    grows with the light is made even for half of them (`denoise_cli.views`), unless the estimate of
    the error is higher then: in dark micrographs, networks trained on photos leave noise. For the
    same reason the first network is adapted to independent noise of that kind, and to impulses, by
    TTT-MIM, where the estimate of the error is sure that this is better. Where the noise is
    independent between pixels, not striped, and no JPEG took its high frequencies, patches that are
    alike are denoised together, with the mean as the pilot (`denoise_cli.collaborative`). Where
    more than white noise was removed, the details in it are given back (`denoise_cli.details`); of
    other noise, impulses aside, what was removed of a few places far more than elsewhere.

    That result is then an estimate of the clean picture, and what was taken away a sample of the
    noise: the network learns from both for some steps (`denoise_cli.resampling`) and makes the
    result anew, of eight passes; but not where the noise is banded. Where it then leaves much of
    the noise, it is not used; where it takes much more away than before, or leaves more, it only
    joins the mean, and so it does of noise that the first network did not know.
    """

    networks: ClassVar[tuple[str, ...]] = (GAUSSIAN, GRAIN)

    budget: str = option(
        "balanced",
        "fast: one network, one pass, no adaptation; balanced: four passes, the picture "
        "turned and mirrored, and eight when tuned; best: always eight, and twice the steps",
    )
    steps: int = option(
        160,
        "gradient steps of the tuning, two fifths of them where the noise is white; 0: no "
        "adaptation of any network",
    )

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"steps must be 0 or more, not {self.steps}")
        require(self.budget in BUDGETS, f"budget must be {', '.join(BUDGETS)}, not {self.budget!r}")

    def adapt(
        self,
        network: nn.Module,
        noisy: Tensor,
        *,
        generator: torch.Generator,
        observer: Observer,
        networks: Mapping[str, Member],
    ) -> Adaptation:
        """Choose for `noisy` (N, C, Y, X), normalized as for `network`."""
        if bool(blank(noisy).all()):
            observer.step(0, network, None)
            return Adaptation(network, reason=f"{DEFAULT}: the picture is blank")
        every = {DEFAULT: Member(network, normalize=_same, restore=_same), **networks}
        clear = cleared(every[DEFAULT], every[GRAIN], noisy, generator)
        first, ways = GRAIN if clear.has_grain else DEFAULT, clear.ways
        if not ways:
            return self._decided(first, every, clear.noisy, generator, observer)

        def of_the_whole(predict: Predictor) -> Predictor:
            return reduce(lambda predict, way: way(predict), reversed(ways.values()), predict)

        seen = _SeenThrough(of_the_whole, observer)
        made = self._decided(first, every, clear.noisy, generator, seen)
        reason = ", then ".join((*ways, made.reason))
        return replace(made, predict=of_the_whole(made.predict), reason=reason)

    def _decided(
        self,
        first: str,
        every: Mapping[str, Member],
        noisy: Tensor,
        generator: torch.Generator,
        observer: Observer,
    ) -> Adaptation:
        """What is made for `noisy`, in which there is nothing to fill in, by `first` and others."""
        # A network of this method's own can be saved as it is.
        predict: Predictor = every[first].network if first == DEFAULT else every[first]
        observer.step(0, predict, None)
        if self.budget == "fast":
            return Adaptation(predict, reason=f"{first}: more would take longer")
        if min(noisy.shape[-2:]) < SMALLEST_SIDE:
            reason = f"{first}: the picture is too small to tell more"
            return Adaptation(self._predictor(_Choice.of(first, every)), reason=reason)
        task = _Task(noisy, first, every, Look(noisy, generator), generator, observer)
        choice = self._choice(task)
        if self.steps:
            choice = self._tuned(choice, task)
        candidates = tuple(
            Candidate(name, (name in choice.used) / len(choice.used), share)
            for name, share in task.look.shares_left().items()
        )
        return Adaptation(
            self._predictor(choice),
            steps=choice.steps,
            kept_step=choice.kept_step,
            reason=_reason(candidates) + (", then alike patches together" if choice.stacks else ""),
            candidates=candidates,
        )

    def _choice(self, task: _Task) -> _Choice:
        """Of the networks as they are, and of the one that unknown noise is adapted to."""
        every, look = task.every, task.look
        left = look(task.first, every[task.first])
        choice = _Choice.of(task.first, every)
        if has_impulses(look.part):  # or texture of a contrast as theirs
            adapts = bool(self.steps) and task.holds_noise()
            return self._surely_better(choice, task) if adapts else choice
        choice = replace(choice, is_known=left <= KNOWN * look.noise, is_everywhere=True)
        # Of weaker noise, an adapted network leaves less in flat places alone.
        if (
            not choice.is_known
            and self.steps
            and noise_bound(look.part) >= WEAK_NOISE
            and task.holds_noise()
        ):
            adapted, made = _adapted(every[GAUSSIAN], task)
            choice = replace(choice, steps=made.steps)
            name = f"{GAUSSIAN}, {'adapted' if made.kept_step else 'as is'}"
            if look(name, adapted) < LEFT_BY_ADAPTED * left and made.kept_step:
                used: dict[str, Predictor] = {**choice.used, name: adapted}
                choice = replace(choice, used=used, kept_step=made.kept_step)
        if noise_kind.is_correlated(task.noisy):
            return choice
        level, neighbors = look.level(task.noisy, list(choice.used))
        if level is not None and task.is_texture(level):
            return choice
        stacks = level is not None and look.is_white(list(choice.used), level)
        choice = replace(choice, level=level, stacks=stacks)
        if level is not None and level.shot:
            choice = self._surely_better(choice, task) if stacks and self.steps else choice
            view = look.even(choice.network, level, neighbors, task.generator)
            return replace(choice, view=view)
        if stacks and choice.is_known and look(GAUSSIAN, every[GAUSSIAN]) <= MORE_LEFT * left:
            used = {GAUSSIAN: every[GAUSSIAN]}
            choice = replace(choice, base=GAUSSIAN, network=every[GAUSSIAN], used=used)
        return choice

    def _surely_better(self, choice: _Choice, task: _Task) -> _Choice:
        """The first network adapted, where the estimated error is surely lower then."""
        adapted, made = _adapted(task.every[task.first], task)
        choice = replace(choice, steps=choice.steps + made.steps)
        if not made.kept_step:
            return choice
        name = f"{task.first}, adapted"
        task.look(name, adapted)
        used: dict[str, Predictor] = {name: adapted, **choice.used}
        del used[task.first]
        return replace(choice, base=name, network=adapted, used=used, kept_step=made.kept_step)

    def _tuned(self, choice: _Choice, task: _Task) -> _Choice:
        """The network of this choice tuned to the noise that the choice takes away."""
        look, base = task.look, choice.network
        # What is left of bands in the estimate would be learned as a part of the picture.
        if look.is_striped(list(choice.used)):
            return choice
        level = choice.level if choice.stacks else None
        steps, lr = self.steps * (2 if self.budget == "best" else 1), LR
        if choice.base == GAUSSIAN:
            steps, lr = math.ceil(WHITE_STEPS * steps), WHITE_LR
        elif level is None:
            lr = MOVED_LR
        tuned = replace(base, network=copy.deepcopy(base.network))

        def report(step: int, loss: float) -> None:
            task.observer.progress(step, steps)
            if step % LOOK_EVERY == 0 or step == steps:
                task.observer.step(step, tuned, None, loss=loss)

        estimate = self._predictor(choice)
        with torch.no_grad():
            parts = _parts(task.noisy, tuned.network.multiple_of, task.generator)
            pairs = [_pair(part.float(), estimate(part), level) for part in parts]
        resampling.tune(
            tuned.network,
            lambda network: replace(base, network=network),
            pairs,
            level,
            steps=steps,
            lr=lr,
            generator=task.generator,
            report=report,
        )
        name = f"{choice.base}, tuned"
        left, removed = look(name, tuned), look.removed([name])
        if left > LEFT_BY_TUNED * look.noise:
            return replace(choice, steps=steps)
        before = look.left[choice.base]
        knows = choice.is_known and left <= max(KNOWN * look.noise, MORE_LEFT_BY_TUNED * before)
        alone = knows and removed <= REMOVED * look.removed(list(choice.used))
        used: dict[str, Predictor] = {} if alone else choice.used
        used = {**used, name: tuned}
        return replace(choice, used=used, passes=ORIENTATIONS, steps=steps, kept_step=steps)

    def _predictor(self, choice: _Choice) -> Predictor:
        """Of each network as many passes, each of another orientation.

        Patches that are alike may be denoised together, and details given back.
        """
        networks = list(choice.used.values())
        if choice.view is not None:
            networks = [shown for each in networks for shown in (each, Shown(each, choice.view))]
        if self.budget == "best":
            passes = [(network, each) for network in networks for each in range(ORIENTATIONS)]
        else:
            of_each = choice.passes // len(networks)
            passes = list(zip(networks * of_each, SPREAD, strict=False))
        predict = partial(_mean, passes)
        return partial(_refined, predict, choice)


@dataclass(frozen=True)
class _Choice:
    """What the result is made of.

    Attributes
    ----------
    base : str
        The name of the network that knows the noise best.
    network : Member
        That network.
    used : dict of Predictor
        Whose mean is taken.
    is_known : bool
        Whether that network leaves next to nothing of the noise.
    is_everywhere : bool
        Whether the noise is known not to be impulses here and there.
    level : NoiseLevel or None
        That of noise that is independent between pixels.
    stacks : bool
        Whether patches that are alike are denoised together.
    view : View or None
        In which noise that grows with the light is even: half of the passes see the picture so.
    passes : int
        At most, of a balanced mean; the same number for each network.
    steps, kept_step : int
        Gradient steps taken, and kept.
    """

    base: str
    network: Member
    used: dict[str, Predictor]
    is_known: bool = True
    is_everywhere: bool = False
    level: NoiseLevel | None = None
    stacks: bool = False
    view: View | None = None
    passes: int = PASSES
    steps: int = 0
    kept_step: int = 0

    @classmethod
    def of(cls, name: str, every: Mapping[str, Member]) -> _Choice:
        """This network alone."""
        return cls(name, every[name], {name: every[name]})


@dataclass(frozen=True)
class _Task:
    """What is to be denoised: `noisy` (N, C, Y, X), on the scale of the method's own network.

    By the `first` of `every` network, unless another one knows the noise better. A part of it is
    looked at, what is done is shown to the observer.
    """

    noisy: Tensor
    first: str
    every: Mapping[str, Member]
    look: Look
    generator: torch.Generator
    observer: Observer

    def holds_noise(self) -> bool:
        """Whether it is noise that flat places hold, not texture, by what the first network does.

        Which the part has been shown to.
        """
        return self.look.holds_noise(self.first, self.every[self.first], like(self.generator))

    def is_texture(self, level: NoiseLevel) -> bool:
        """Whether texture passed for noise of this `level`, by what the first network does."""
        draws = like(self.generator)
        return self.look.is_texture(self.first, self.every[self.first], level, draws)


def _same(pictures: Tensor) -> Tensor:
    return pictures


def _parts(noisy: Tensor, multiple: int, generator: torch.Generator) -> list[Tensor]:
    """A small picture as a whole, of others random parts."""
    rows, columns = (side // multiple * multiple for side in noisy.shape[-2:])
    if len(noisy) * rows * columns <= PARTS * LOOKED_AT**2:
        return list(noisy[..., :rows, :columns].split(1))
    size = min(LOOKED_AT, rows, columns)
    return [random_crop(noisy, size, generator) for _ in range(PARTS)]


def _pair(noisy: Tensor, estimate: Tensor, level: NoiseLevel | None) -> resampling.Pair:
    """A pair whose noise, if it has a level, is as strong as what was removed from each place."""
    times = None if level is None else details.stronger(noisy, estimate, level.variance(estimate))
    return resampling.Pair.of(noisy, estimate, times)


def _adapted(member: Member, task: _Task) -> tuple[Member, Adaptation]:
    """A network adapted by TTT-MIM, and how that went."""
    adaptation = TTTMIM().adapt(
        member.network,
        member.normalize(task.noisy),
        generator=task.generator,
        # Step 0 is the first network's.
        observer=_SeenThrough(lambda p: replace(member, network=p), task.observer, first=1),
    )
    return replace(member, network=adaptation.predict), adaptation


class _SeenThrough(Observer):
    """Shows an adaptation, from its step `first` on, to an observer of another picture or scale.

    `seen` makes of its predictors what that one sees.
    """

    def __init__(
        self, seen: Callable[[Predictor], Predictor], observer: Observer, first: int = 0
    ) -> None:
        self._seen, self._observer, self._first = seen, observer, first

    def progress(self, done: int, total: int) -> None:
        self._observer.progress(done, total)

    def step(
        self, step: int, predict: Predictor, reconstruct: Predictor | None, **numbers: float | None
    ) -> None:
        if step >= self._first:
            shown = None if reconstruct is None else self._seen(reconstruct)
            self._observer.step(step, self._seen(predict), shown, **numbers)


def _reason(candidates: tuple[Candidate, ...]) -> str:
    used = [candidate for candidate in candidates if candidate.weight]
    rest = [candidate for candidate in candidates if not candidate.weight]
    chosen = " and ".join(candidate.name for candidate in used)
    left = ", ".join(f"{candidate.noise_left:.0%}" for candidate in used)
    without = ", ".join(f"{candidate.name} ({candidate.noise_left:.0%})" for candidate in rest)
    return (
        f"{'mean of ' if len(used) > 1 else ''}{chosen}: {left} of the noise left"
        f"{f', without {without}' if without else ''}"
    )


def _mean(passes: list[tuple[Predictor, int]], noisy: Tensor) -> Tensor:
    """The mean of what networks make of the picture in the orientations given with them."""

    def one(which: tuple[Predictor, int]) -> Tensor:
        predict, orientation = which
        seen = turned(noisy, orientation).contiguous(memory_format=torch.channels_last)
        return turned_back(predict(seen).float(), orientation)

    total = torch.zeros_like(noisy, dtype=torch.float32)
    for result in lanes.each(one, passes):
        total += result
    return total / len(passes)


def _refined(predict: Predictor, choice: _Choice, noisy: Tensor) -> Tensor:
    noisy, denoised = noisy.float(), predict(noisy)
    level = choice.level
    if level is not None and choice.stacks:
        denoised = collaborative.refine(noisy, denoised, level)
    if level is not None and not level.shot:
        return details.give_back(noisy, denoised, level.read)
    # Noise that changes with the light is not known well enough to tell details from it.
    return details.give_back_unusual(noisy, denoised) if choice.is_everywhere else denoised
