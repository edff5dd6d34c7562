"""Impulses among other noise: black and white specks, found and filled in before anything else."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .transforms import distinct_planes
from .windows import window_mean

Places = tuple[Tensor, ...]  # indices of samples in (N, C, Y, X)

# All limits were chosen on training photos with and without specks, under fifteen kinds of noise.
# A speck lies so far from the median of those around it: in their deviations, and on 0..1.
# Where specks are rare, more of what lies so far away is none.
DEVIATIONS, DEVIATIONS_IF_RARE, RARE, DISTANCE = 2.5, 3.5, 0.002, 0.12
MAD_TO_DEVIATION = 1.4826  # of normal noise
AROUND = 2  # pixels to each side
# The share of the nearest neighbors that may be like a speck: one of eight, since in a line there
# are two; and more, by this times the share of specks, where those lie beside each other.
MOST_ALIKE, BESIDE = 1 / 8, 3.5
FEWEST_LEFT = 3  # neighbors to fill in from
ROUNDS = 4  # where every tenth sample is one, many are only found once others are filled in
# Whether there are specks is told where other noise cannot reach the end of the range: so far away,
# in deviations and on 0..1. Of samples that stand out there, details are seldom at the very end,
# more often up to `NEXT` from it. Specks are all at it; or all up to a level near it, as of scans
# and of sensors whose black is not 0.
REACH, REACHED, NEXT = 5.0, 0.25, 0.105
LEVELS, AT_END = (0.0, 0.02, 0.05, 0.1, 0.15), 2
LEAST_SHARE, TIMES, TIMES_BEFORE_END, SURENESS = 1e-4, 2.0, 5.0, 3.0
# Hot pixels of any brightness are told in gray pictures alone: in color, they were demosaiced. They
# lie this far away, and their direct neighbors no nearer to them than noise and this share of the
# way: of stars and details, which a lens has blurred, these are. There must be more of them than of
# others that stand out as far, which are details.
HOT_DEVIATIONS, SPILLED, LEAST_HOT = 9.0, 0.1, 2e-4
PAST = 0.05  # as far beyond an end as counts
LEAST_DEVIATION = 0.5 / 255  # of pictures with noise or texture: drawings have neither
WINDOW, WINDOWS = 192, 3  # looked at: so many windows of this side down and across
SPARSE = 7  # of every so many rows and columns one is asked how far specks can be told
CHUNK = 1 << 18  # samples whose neighbors are in memory at a time


@dataclass(frozen=True)
class Impulses:
    """Specks of a picture: salt and pepper, dust, pixels that are dead or stuck.

    Samples at an end of the range that stand out of those around them, as the median of these and
    their median absolute deviation from it tell: Crnojevic, Senk and Trpovski, "Advanced impulse
    detection based on pixel-wise MAD", IEEE Signal Processing Letters 11(7), 2004. Differs from the
    paper: only the ends of the range count, the samples of a line are kept, and what is put in is
    the median of the neighbors that are no specks. In gray pictures hot pixels of any brightness
    are specks, too, if there are enough of them to tell them from details and stars.

    Attributes
    ----------
    low, high : float
        Specks are at most as bright as `low`, or at least as bright as `high`; -inf and inf where
        there are none.
    share : float
        Of all samples, about.
    are_hot : bool
        Whether there are hot pixels of any brightness, too.
    """

    low: float
    high: float
    share: float
    are_hot: bool = False

    @classmethod
    def of(cls, pictures: Tensor) -> Impulses | None:
        """Those of `pictures` (N, C, Y, X) on 0..1 that all have the same range, if there are any.

        Where other noise cannot reach an end of the range, many more samples must be at it than
        next to it.
        """
        if min(pictures.shape[-2:]) <= AROUND:
            return None
        pictures = distinct_planes(pictures)
        windows = _windows(pictures).float()
        sparse = torch.zeros_like(windows, dtype=torch.bool)
        sparse[..., ::SPARSE, ::SPARSE] = True
        all_over = _Around.of(windows, sparse.nonzero().unbind(dim=1), windows)
        least, most = float(pictures.amin()), float(pictures.amax())
        black = 0.0 if least < 0 and _are_many(windows == 0, -windows) else least
        white = 1.0 if most > 1 and _are_many(windows == 1, windows - 1) else most
        low = _Pile.at(windows, black, all_over, inward=1)
        high = _Pile.at(windows, white, all_over, inward=-1)
        share = _share_hot(windows)
        if not (low.is_sure or high.is_sure):
            return cls(-math.inf, math.inf, share, are_hot=True) if share else None
        # Black specks seldom come without white ones: of these less is asked then.
        return cls(
            low.level if low.is_likely else -math.inf,
            high.level if high.is_likely else math.inf,
            sum(pile.share for pile in (low, high) if pile.is_likely),
            are_hot=share > 0,
        )

    def filled(self, pictures: Tensor) -> Tensor:
        """`pictures` (N, C, Y, X) with what is there otherwise in place of the specks."""
        if min(pictures.shape[-2:]) <= AROUND:
            return pictures
        filled = noisy = distinct_planes(pictures).float()
        for _ in range(ROUNDS):
            places = self._places(filled, noisy)
            if not places.any():
                break
            filled = _filled(filled, places)
        return filled.expand_as(pictures).contiguous(memory_format=torch.channels_last)

    def places(self, pictures: Tensor) -> Tensor:
        """Where specks stand out of `pictures` (N, C, Y, X), a mask of the same shape."""
        return self._places(pictures, pictures)

    def _places(self, filled: Tensor, noisy: Tensor) -> Tensor:
        """Where there are still some in `filled`, which was `noisy`."""
        at_low, at_high = filled <= self.low, filled >= self.high
        found = torch.zeros_like(at_low)
        kinds = [(_candidates(filled, at_low | at_high), _Around.stands_out)]
        if self.are_hot:
            kinds.append((_far_from_neighbors(filled), _Around.is_hot))
        for chunks, is_speck in kinds:
            for chunk in chunks:
                chosen = is_speck(_Around.of(filled, chunk, noisy), self.share)
                found[tuple(each[chosen] for each in chunk)] = True
        # What is black or white in all colors, and a speck in one, is a speck in all of them.
        common = at_low.all(dim=1, keepdim=True) | at_high.all(dim=1, keepdim=True)
        return found | (common & found.any(dim=1, keepdim=True))


@dataclass(frozen=True)
class _Pile:
    """Samples that stand out near an end of the range, where other noise cannot reach it.

    Attributes
    ----------
    level : float
        The value up to which they are specks, if any are.
    is_at_end : bool
        Whether that is the very end of the range.
    count, near : int
        How many there are up to it, and not far beyond it.
    held : float
        The share of all samples that would show if they were specks.
    samples : int
        All that there are.
    """

    level: float
    is_at_end: bool
    count: int
    near: int
    held: float
    samples: int

    @property
    def is_likely(self) -> bool:
        """Whether more are specks than details."""
        return self.count > self.near

    @property
    def is_sure(self) -> bool:
        """Whether they are too many for details."""
        times = TIMES if self.is_at_end else TIMES_BEFORE_END
        enough = self.count >= LEAST_SHARE * self.samples
        return enough and _outnumber(self.count, self.near, times)

    @property
    def share(self) -> float:
        """Of all samples those that are specks, if they are as many everywhere."""
        return min(self.count / max(self.held * self.samples, 1.0), 1.0)

    @classmethod
    def at(cls, windows: Tensor, end: float, all_over: _Around, *, inward: int) -> _Pile:
        """That of `windows` (N, C, Y, X) at this `end`; `inward` is 1 at the low one, or else -1.

        Up to the nearest of the levels at which it is sure, or else very near the end; `all_over`
        are samples from everywhere.
        """
        near_end = inward * (windows - end) < LEVELS[-1] + NEXT
        around = [_Around.of(windows, chunk, windows) for chunk in _candidates(windows, near_end)]
        found = [each.only(each.stands_out(RARE)) for each in around]
        piles = []
        for depth in LEVELS:
            level, count, near = end + inward * depth, 0, 0
            for each in found:
                values = each.values[each.is_out_of_reach(level, inward)]
                beyond = inward * (values - level)
                count += int((beyond <= 0).sum())
                near += int(((beyond > 0) & (beyond <= NEXT)).sum())
            held = float(all_over.is_out_of_reach(level, inward).float().mean())
            piles.append(cls(level, not depth, count, near, held, windows.numel()))
            if piles[-1].is_sure:
                return piles[-1]
        return max(piles[:AT_END], key=lambda pile: pile.count / (pile.near + 1))


@dataclass(frozen=True)
class _Around:
    """What is around samples: their values, the medians of the others, the deviations from these.

    And the share of the nearest that are more like the sample than like the median, and the mean of
    the four beside it. All (M,).
    """

    values: Tensor
    medians: Tensor
    deviations: Tensor
    alike: Tensor
    beside: Tensor

    @classmethod
    def of(cls, pictures: Tensor, where: Places, noisy: Tensor) -> _Around:
        """`noisy` are the pictures in which none is filled in: a line is still whole there."""
        values = pictures[where]
        others = _neighbors(pictures, where, AROUND)
        medians = others.median(dim=1).values
        spread = (others - medians[:, None]).abs().median(dim=1).values
        # Beyond the edge is nothing: a line along it is no less a line.
        nearest = _neighbors(noisy, where, 1, mirrored=False)
        closer = (values - medians).abs() / 2
        alike = ((nearest - values[:, None]).abs() < closer[:, None]).sum(dim=1)
        alike = alike / nearest.isfinite().sum(dim=1)
        beside = nearest[:, [1, 3, 4, 6]].nanmean(dim=1)
        return cls(values, medians, MAD_TO_DEVIATION * spread, alike, beside)

    def only(self, chosen: Tensor) -> _Around:
        """Of these samples alone."""
        held = (self.values, self.medians, self.deviations, self.alike, self.beside)
        return _Around(*(each[chosen] for each in held))

    def stands_out(self, share: float) -> Tensor:
        """Which of the samples do, not as a part of a line; `share` of all samples are specks."""
        return self._is_beyond(DEVIATIONS_IF_RARE if share < RARE else DEVIATIONS, share)

    def is_far(self, share: float) -> Tensor:
        """Which stand out as far as hot pixels, of which there is this `share`, or details do."""
        # Where most samples are alike, single photons look the same.
        return self._is_beyond(HOT_DEVIATIONS, share) & (self.deviations > LEAST_DEVIATION)

    def is_hot(self, share: float) -> Tensor:
        """Which of these are hot pixels: nothing of them is beside them."""
        return self.is_far(share) & self.is_sharp()

    def is_sharp(self) -> Tensor:
        """Of which of the samples nothing but noise is beside them."""
        spilled = (self.beside - self.medians).abs() - self.deviations
        return spilled < SPILLED * (self.values - self.medians).abs()

    def is_out_of_reach(self, level: float, inward: int) -> Tensor:
        """Whether noise, of which there must be some, cannot reach this level near an end."""
        room = inward * (self.medians - level)
        reach = (REACH * self.deviations).clamp(min=REACHED)
        return (room > reach) & (self.deviations > LEAST_DEVIATION)

    def _is_beyond(self, factor: float, share: float) -> Tensor:
        least = (factor * self.deviations).clamp(min=DISTANCE)
        is_alone = self.alike <= MOST_ALIKE + BESIDE * share
        return ((self.values - self.medians).abs() > least) & is_alone


def _are_many(at_end: Tensor, beyond: Tensor) -> bool:
    """Whether more samples are at an end of 0..1 than the few of noise or stars that reach past."""
    count, past = int(at_end.sum()), int(((beyond > 0) & (beyond <= PAST)).sum())
    return count >= LEAST_SHARE / 2 * at_end.numel() and count >= past / 4


def _share_hot(windows: Tensor) -> float:
    """The share of hot pixels in `windows` (N, C, Y, X); 0 if there are none."""
    if windows.shape[1] > 1:
        return 0.0
    hot = far = 0
    for chunk in _far_from_neighbors(windows):
        around = _Around.of(windows, chunk, windows)
        around = around.only(around.is_far(RARE))
        far += len(around.values)
        hot += int(around.is_sharp().sum())
    is_sure = hot >= LEAST_HOT * windows.numel() and _outnumber(hot, far - hot, TIMES)
    return hot / windows.numel() if is_sure else 0.0


def _outnumber(specks: int, others: int, times: float) -> bool:
    """Whether specks are surely more than so many times the others."""
    deviation = (specks + times**2 * others) ** 0.5
    return specks - times * others > SURENESS * deviation


def _far_from_neighbors(pictures: Tensor) -> list[Places]:
    """Where samples differ from their neighbors by more than most do, in chunks."""
    distance = (pictures - window_mean(pictures, 3, 3)).abs()
    typical = float(distance[..., ::SPARSE, ::SPARSE].median()) * MAD_TO_DEVIATION
    where = (distance > max(HOT_DEVIATIONS / 2 * typical, DISTANCE * 2 / 3)).nonzero()
    return [chunk.unbind(dim=1) for chunk in where.split(CHUNK) if len(chunk)]


def _windows(pictures: Tensor) -> Tensor:
    """Windows (K, C, Y, X) from all over `pictures`; small ones as a whole."""
    count, _, rows, columns = pictures.shape
    if count * rows * columns <= (WINDOW * WINDOWS) ** 2:
        return pictures
    height, width = min(WINDOW, rows), min(WINDOW, columns)
    places = [(y, x) for y in range(WINDOWS) for x in range(WINDOWS)]
    found = []
    for k, (y, x) in enumerate(places):
        n = k * count // len(places)
        top, left = y * (rows - height) // (WINDOWS - 1), x * (columns - width) // (WINDOWS - 1)
        found.append(pictures[n, :, top : top + height, left : left + width])
    return torch.stack(found)


def _candidates(pictures: Tensor, ends: Tensor) -> list[Places]:
    """Where samples at `ends` are not as their neighbors, in chunks."""
    distance = (pictures - window_mean(pictures, 3, 3)).abs()
    # A third of the nine samples of the mean may be as far away.
    where = (ends & (distance > DISTANCE * 2 / 3)).nonzero()
    return [chunk.unbind(dim=1) for chunk in where.split(CHUNK) if len(chunk)]


def _neighbors(pictures: Tensor, where: Places, reach: int, *, mirrored: bool = True) -> Tensor:
    """The samples around those `where` (M, neighbors), of the same channel.

    Beyond the edges the picture is mirrored, or else NaN.
    """
    n, c, y, x = where
    rows, columns = pictures.shape[-2:]
    side = range(-reach, reach + 1)
    found = []
    for v, u in ((v, u) for v in side for u in side if v or u):
        row, column = _mirrored(y + v, rows), _mirrored(x + u, columns)
        samples = pictures[n, c, row, column]
        if not mirrored:
            samples = samples.masked_fill((row != y + v) | (column != x + u), math.nan)
        found.append(samples)
    return torch.stack(found, dim=1)


def _mirrored(index: Tensor, count: int) -> Tensor:
    return count - 1 - (count - 1 - index.abs()).abs()


def _filled(pictures: Tensor, places: Tensor) -> Tensor:
    """`pictures` with the median of the neighbors that are not at `places`, where it is."""
    unknown = pictures.masked_fill(places, math.nan)
    filled = pictures.clone()
    for chunk in places.nonzero().split(CHUNK):
        where = chunk.unbind(dim=1)
        neighbors = _neighbors(unknown, where, 1)
        medians = neighbors.nanmedian(dim=1).values
        few = neighbors.isfinite().sum(dim=1) < FEWEST_LEFT
        further = _neighbors(unknown, tuple(each[few] for each in where), AROUND)
        medians[few] = further.nanmedian(dim=1).values
        filled[where] = torch.where(medians.isfinite(), medians, pictures[where])
    return filled
