"""How good is a denoised picture? An estimate from the noisy picture alone.

For noise n of zero mean, a picture y = x + n and a denoiser f,

    E |f(y) - x|^2  =  E |y - f(y)|^2  -  E |n|^2  +  2 E <n, f(y) - x>

and the last term is E <n, J n> to first order, J being the Jacobian of f. For white Gaussian noise
of known sigma that is Stein's unbiased risk estimate (SURE) with the Monte-Carlo divergence of
Ramani et al., TIP 2008; `SteinEstimate` is that, for noise whose level is known. `RiskEstimate`
assumes neither a level nor whiteness: the probe is noise taken from the picture's own flat windows,
put down elsewhere at the same brightness, so that it has the level, the signal dependence, the
spatial and the color correlation of the noise that is really there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import lanes
from .flat import FlatPlaces, by_brightness, detrended, energy, laid, usable
from .neighbors import WHITE, Neighbors
from .noise_level import NoiseLevel
from .objectives import Predict
from .views import SMALLEST_ERROR, Errors, sure_fall

# On training photos, what `RiskEstimate` took to gain less lost more often than it won; of noise
# that was passed over, all of which a flat place shows, smaller gains are true.
MINIMUM_GAIN_DB, PASSED_OVER_GAIN_DB = 1.3, 0.5
WINDOW = 16
STEP = 0.3
EXAMINED = 2  # parts of a picture
# What `noise_is_left` asks for: more than clean photos and photos under known noise show, flat or
# textured, measured on held-out training photos.
SMALL_WINDOW = 8
COLOR_SHARE, COLOR_EVENNESS = 0.005, 0.45
TEXTURE_TO_COLOR, TEXTURE_TO_COLOR_EVEN = 4.0, 8.0  # noise whose channels correlate by 0.9, 0.94
GRAY_SHARE, GRAY_EVENNESS, EVEN = 0.1, 0.6, 0.65
LUMA_REMOVED = (0.5 / 255) ** 2
# Variance at most, of that of the picture; share and evenness at most brightnesses: of one part and
# of several, which texture seldom covers. Or, of several, the share at each brightness and the
# evenness at one: noise may vary with color, as fainter texture does.
LUMA_OF_ONE, LUMA_OF_SEVERAL = (0.05, 50.0, GRAY_EVENNESS), (0.05, 20.0, 0.4)
LUMA_SOMEWHERE = (0.01, 10.0, 0.6)
# Of such noise, windows of `SMALL_WINDOW` hold at most this share of what those of `WINDOW` hold:
# what a network passes over is coarse, the texture that it leaves is fine.
LUMA_FINE = 0.6


class Estimate:
    """Of the mean squared error of denoisers on one noisy picture; called with one, it gives that.

    Attributes
    ----------
    variance : float
        Mean variance of the noise, in the units of the picture.
    least_gain_db : float
        What an improvement must be estimated to gain to be one.
    smallest_error : float
        Of the noise's variance: below, errors are not told apart.
    """

    variance: float
    least_gain_db: float
    smallest_error: float

    def __call__(self, predict: Predict) -> float:
        """The estimated mean squared error of `predict`."""
        raise NotImplementedError

    def gain_db(self, before: float, after: float) -> float:
        """What an error of `after` gains in PSNR over one of `before`."""
        if not math.isfinite(after):  # the adaptation ran away
            return -math.inf
        # An estimate can come out negative.
        floor = self.smallest_error * self.variance + 1e-12
        return 10 * math.log10(max(before, floor) / max(after, floor))


class SteinEstimate(Estimate):
    """For independent noise of a known level, by `denoise_cli.objectives.risk_map`.

    Of every denoiser but the first, the error is half a standard error above the estimate, so that
    few gains are by chance.

    Parameters
    ----------
    noisy : Tensor (K, C, Y, X)
        Parts of the picture, as the network sees them.
    level : NoiseLevel
        Of its noise.
    trust : Tensor (K, 1, Y, X)
        1 where the noise is of that level, elsewhere 0.
    generator : torch.Generator
        Draws the probes.
    neighbors : Neighbors
        What they have in common in the noise; the level is taken to be what it is for that.
    """

    # With as much of a standard error and so small a gain 51 micrographs and photos, made of
    # training pictures, gain the most: 0.23 dB of 0.33; two lose, 0.35 at most. With 1 and 0.15 dB
    # they gain 0.20.
    least_gain_db = 0.05
    sureness = 0.5
    smallest_error = SMALLEST_ERROR

    def __init__(
        self,
        noisy: Tensor,
        level: NoiseLevel,
        trust: Tensor,
        generator: torch.Generator,
        neighbors: Neighbors = WHITE,
    ) -> None:
        share = trust.mean()
        self._errors = Errors(noisy, level, trust / share, generator, 1, neighbors)
        self.variance = float((level.variance(noisy) * trust).mean() / share)
        self._first: Tensor | None = None

    def __call__(self, predict: Predict) -> float:
        """The estimated mean squared error of `predict`."""
        errors = self._errors(predict)
        if self._first is None:
            self._first = errors
            return float(errors.mean())
        return float(self._first.mean()) - sure_fall(self._first - errors, self.sureness)


class ImpulseEstimate(Estimate):
    """For impulses alone, such as salt and pepper: all other samples are clean.

    The impulses of the picture are filled in and put down again elsewhere, where it is known what
    they cover.

    Parameters
    ----------
    noisy : Tensor (1, C, Y, X)
        As the network sees it.
    denoised : Tensor (1, C, Y, X)
        A first denoised version, of the unadapted network.
    places : Tensor of bool (1, C, Y, X)
        Where samples are impulses.
    generator : torch.Generator
        Draws where they go.
    """

    least_gain_db = 0.1
    smallest_error = 1e-6

    def __init__(
        self, noisy: Tensor, denoised: Tensor, places: Tensor, generator: torch.Generator
    ) -> None:
        self.clean = noisy
        self.known = ~places
        rows, columns = noisy.shape[-2:]
        down, across = (
            int(torch.randint(n // 4, 3 * n // 4, (), generator=generator, device=noisy.device))
            for n in (rows, columns)
        )
        moved, covers = (t.roll((down, across), (-2, -1)) for t in (noisy, places))
        filled = torch.where(places, denoised, noisy)
        self.noisy = torch.where(covers, moved, filled)
        self.variance = float((noisy - denoised)[places].square().mean() * places.float().mean())

    def __call__(self, predict: Predict) -> float:
        """The estimated mean squared error of `predict`."""
        with torch.no_grad():
            errors = (predict(self.noisy).float() - self.clean).square()
        return float(errors[self.known].mean())


class RiskEstimate(Estimate):
    """For any noise, by noise taken from flat places of the picture itself (see above).

    Parameters
    ----------
    noisy : Tensor (K, C, Y, X)
        Parts of the picture, as the network sees them; sides of at least 64. The error is estimated
        on the first `EXAMINED`, with noise from all of them.
    denoised : Tensor (K, C, Y, X)
        A first denoised version, of the unadapted network: shows where the picture is flat.
    generator : torch.Generator
        Places the probe.
    passed_over : bool, optional
        Whether the noise was passed over; told from the parts by default.
    """

    smallest_error = 0.01

    def __init__(
        self,
        noisy: Tensor,
        denoised: Tensor,
        generator: torch.Generator,
        passed_over: bool | None = None,
    ) -> None:
        self.noisy = noisy[:EXAMINED]
        if passed_over is None:
            passed_over = is_passed_over(noisy, denoised)
        self.least_gain_db = PASSED_OVER_GAIN_DB if passed_over else MINIMUM_GAIN_DB
        self.probe = flat_noise(noisy, denoised, generator, passed_over)[:EXAMINED]
        self.variance = float(self.probe.square().mean())

    def __call__(self, predict: Predict) -> float:
        """The estimated mean squared error of `predict`.

        Differences between predictors are told well; the level itself is off by a few percent of
        the noise's variance, so that it is rough (and can be negative) for very good predictors.
        """
        with torch.no_grad():
            both = (self.noisy, self.noisy + STEP * self.probe)
            denoised, moved = lanes.each(lambda picture: predict(picture).float(), both)
        residual = (self.noisy - denoised).square().mean()
        passed = (self.probe * (moved - denoised)).mean() / STEP
        return float(residual + 2 * passed) - self.variance


def flat_noise(
    noisy: Tensor, denoised: Tensor, generator: torch.Generator, passed_over: bool | None = None
) -> Tensor:
    """Noise (K, C, Y, X) like that of `noisy`, independent of it; same shape.

    Every place gets the detrended samples of a window that is flat in `denoised` and of about the
    same brightness, from any of the pictures, flipped at random. If `denoised` is clean, the noise
    is what was taken away; if noise is left in it, the noise is all that is in the window.
    """
    places = FlatPlaces.of(noisy, denoised, WINDOW)
    is_left = noise_is_left(noisy, denoised, passed_over)
    residuals = places.samples if is_left else places.removed
    return laid(places.pieces(residuals, noisy, generator), noisy)


def noise_is_left(noisy: Tensor, denoised: Tensor, passed_over: bool | None = None) -> bool:
    """Whether `denoised` (K, C, Y, X) still holds noise of `noisy`, and not just texture.

    Noise leaves no place clean: of all windows of one brightness, even the flattest hold much of
    it, and about as much as others. Texture is uneven, and it has little color: in a color picture
    the differences of the channels tell the two apart even where all of the picture is textured.
    Noise without color (cameras suppress it) passes for noise only if next to nothing was removed:
    if it was `passed_over`, by default as `is_passed_over` finds.
    """
    coarse = _Flattest(noisy, denoised, WINDOW)
    if passed_over is None:
        passed_over = _passes_over(coarse, noisy, denoised)
    if passed_over:
        return True
    fine = _Flattest(noisy, denoised, SMALL_WINDOW)
    if not fine.has_color:
        return coarse.share > GRAY_SHARE and coarse.evenness > GRAY_EVENNESS
    colored = fine.color_share > COLOR_SHARE and fine.color_evenness > COLOR_EVENNESS
    limit = TEXTURE_TO_COLOR_EVEN if coarse.evenness > EVEN else TEXTURE_TO_COLOR
    return colored and fine.texture_to_color < limit


def is_passed_over(noisy: Tensor, denoised: Tensor) -> bool:
    """Whether what `denoised` (K, C, Y, X) holds is noise of which next to nothing was removed.

    Of a contrast that is weak beside that of the picture, even, and, in several parts, coarse;
    colors do not count, which cameras suppress in noise. Clean training photos pass for it, shown
    to a network of white noise, where grass or sand covers all of the part, or the grain of film:
    by one part of 256 pixels a side one in 14, by nine parts together one in 12.
    """
    return _passes_over(_Flattest(noisy, denoised, WINDOW), noisy, denoised)


def _passes_over(coarse: _Flattest, noisy: Tensor, denoised: Tensor) -> bool:
    if coarse.left > coarse.share * LUMA_REMOVED:
        return False
    contrast = coarse.left / max(float(denoised.var()), 1e-12)

    def within(limits: tuple[float, float, float], share: float, evenness: float) -> bool:
        return contrast < limits[0] and share > limits[1] and evenness > limits[2]

    if len(denoised) == 1:
        return within(LUMA_OF_ONE, coarse.share, coarse.evenness)
    if noise_left(noisy, denoised) > LUMA_FINE * coarse.left:
        return False
    return within(LUMA_OF_SEVERAL, coarse.share, coarse.evenness) or within(
        LUMA_SOMEWHERE, coarse.least_share, coarse.most_even
    )


def evenness(noisy: Tensor, denoised: Tensor) -> float:
    """How even what `denoised` (K, C, Y, X) holds in the flattest places is, 0 to 1.

    That of the flattest windows over that of the flatter ones: of noise most, of texture little.
    """
    return _Flattest(noisy, denoised, WINDOW).evenness


def noise_left(noisy: Tensor, denoised: Tensor, window: int = SMALL_WINDOW) -> float:
    """The variance that the flattest places of `denoised` (K, C, Y, X) hold: noise that is left.

    A median over brightness; the faintest texture counts as well, so it is for comparing. Places
    are windows of so many pixels a side: larger ones show coarser noise, too.
    """
    return _Flattest(noisy, denoised, window).left


def noise_bound(noisy: Tensor) -> float:
    """The standard deviation that the noise of `noisy` (K, C, Y, X) has at most.

    What the flattest windows hold, noise and the faintest texture, as the median over brightness.
    Correlated noise passes for somewhat weaker, since each window's plane is subtracted.
    """
    brightness, samples, _ = detrended(noisy, noisy, SMALL_WINDOW)
    energies = energy(samples)
    groups = by_brightness(brightness, usable(energies))
    if not groups:
        return 0.0
    flattest = [torch.quantile(energies[group], 0.05) for group in groups]
    return float(torch.stack(flattest).median().sqrt())


class _Flattest:
    """What is left and what was removed in the flattest windows, as medians over brightness.

    All is 0 where no window holds anything, as in a blank picture.

    Attributes
    ----------
    left : float
        Variance left in `denoised`.
    share, color_share : float
        That over the variance removed, of the samples and of the differences of channels.
    evenness, color_evenness : float
        That of the flattest windows over that of the flatter ones.
    least_share, most_even : float
        `share` and `evenness` at the brightness where they are least and most.
    texture_to_color : float
        That of the samples over that of the differences of channels.
    """

    def __init__(self, noisy: Tensor, denoised: Tensor, size: int) -> None:
        brightness, samples, left = detrended(noisy, denoised, size)
        removed = samples - left
        groups = by_brightness(brightness, usable(energy(left) + energy(removed)))
        each = _in_groups(energy(left), energy(removed), groups)
        self.left, self.share, self.evenness = each.median(dim=1).values.tolist()
        self.least_share, self.most_even = float(each[1].min()), float(each[2].max())
        color_left, color_removed = _color(left), _color(removed)
        color = float(energy(color_left + color_removed).mean())
        self.has_color = color > 0.01 * float(energy(left + removed).mean())
        if self.has_color:
            each = _in_groups(energy(color_left), energy(color_removed), groups)
            color, self.color_share, self.color_evenness = each.median(dim=1).values.tolist()
            self.texture_to_color = self.left / max(color, 1e-12)


def _in_groups(left: Tensor, removed: Tensor, groups: tuple[Tensor, ...]) -> Tensor:
    """What the flattest 5 % of each group hold, its share of the removed, evenness: (3, G)."""
    if not groups:
        return left.new_zeros(3, 1)
    rows = []
    for group in groups:
        flattest, flatter = torch.quantile(left[group], left.new_tensor([0.05, 0.25]))
        share = flattest / removed[group].median().clamp(min=1e-12)
        rows.append(torch.stack([flattest, share, flattest / flatter.clamp(min=1e-12)]))
    return torch.stack(rows, dim=1)


def _color(windows: Tensor) -> Tensor:
    """Differences of neighboring channels (K, C - 1, W, W)."""
    return windows[:, 1:] - windows[:, :-1]
