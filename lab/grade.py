"""What a score is worth: intervals and paired tests. Pure; standard library only."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import Literal

SIGNIFICANT = 0.05  # p below which a change counts, beside its interval
Z95 = 1.959964  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Candidate minus best on the same items. `gained` and `lost` count items that changed sides; `p` is McNemar's."""

    delta: float
    low: float
    high: float
    p: float
    n: int
    gained: int
    lost: int

    @property
    def numbers(self) -> dict[str, float]:
        """What a verdict says of it."""
        return {"delta": self.delta, "low": self.low, "high": self.high, "p": self.p}


def wilson(correct: float, n: int, z: float = Z95) -> Interval:
    """The Wilson score interval of a share (Wilson 1927; Brown, Cai and DasGupta 2001 recommend it for any n).

    Raises:
        ValueError: n is not positive, or `correct` lies outside 0 to n.
    """
    if n <= 0 or not 0 <= correct <= n:
        raise ValueError(f"{correct:g} of {n} is no share.")
    share, z2 = correct / n, z * z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def paired(candidate: Sequence[float], best: Sequence[float], seed: int = 0, resamples: int = 2000) -> Comparison:
    """Compare two models on the same items, each item a score in [0, 1].

    The interval is the percentile bootstrap of the mean difference, over items (Efron and Tibshirani 1993, ch. 13); p is
    McNemar's exact two-sided test. A fractional score counts as right for McNemar from 0.5 on; the interval uses it whole.

    Raises:
        ValueError: The lists are empty, or of different lengths.
    """
    if not candidate or len(candidate) != len(best):
        raise ValueError(f"{len(candidate)} and {len(best)} items cannot be paired.")
    n = len(candidate)
    differences = [c - b for c, b in zip(candidate, best, strict=True)]
    rng = random.Random(seed)
    gained = sum(c >= 0.5 > b for c, b in zip(candidate, best, strict=True))
    lost = sum(b >= 0.5 > c for c, b in zip(candidate, best, strict=True))
    means = sorted(sum(rng.choices(differences, k=n)) / n for _ in range(resamples))
    low, high = means[int(0.025 * resamples)], means[int(0.975 * resamples) - 1]
    return Comparison(sum(differences) / n, low, high, mcnemar(gained, lost), n, gained, lost)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p of McNemar's test: a fair coin's chance of a split at least as uneven (McNemar 1947)."""
    changed = gained + lost
    tail = sum(comb(changed, k) for k in range(min(gained, lost) + 1)) / 2**changed
    return min(1.0, 2 * tail)


def verdict(compared: Comparison) -> tuple[Literal["keep", "discard"], str]:
    """Keep a candidate only when its change is above 0 by the whole interval and by McNemar's p; with the numbers.

    Both, because each is lax where the other is not: 4 gained and 0 lost has an interval above 0 and p = 0.125.
    """
    numbers = (
        f"{compared.delta:+.3f} [{compared.low:+.3f}, {compared.high:+.3f}] on {compared.n} items "
        f"({compared.gained} gained, {compared.lost} lost, p = {compared.p:.2g})"
    )
    if compared.low > 0 and compared.p < SIGNIFICANT:
        return "keep", f"Better by {numbers}."
    if compared.high < 0:
        return "discard", f"Worse: {numbers}."
    return "discard", f"Not better beyond noise: {numbers}."
