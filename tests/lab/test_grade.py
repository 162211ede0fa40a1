"""Intervals and paired tests, against published values."""

import pytest

from lab.grade import mcnemar, paired, verdict, wilson


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (15, 148, 0.0624, 0.1605),  # the same
        (0, 20, 0.0000, 0.1611),  # the same
        (1, 29, 0.0061, 0.1718),  # the same
        (0, 10, 0.0, 0.277533),  # z²/(n + z²) = 3.841459 / 13.841459
        (5, 10, 0.236593, 0.763407),  # 1/2 ± z / (2 √(n + z²)) = 0.5 ± 1.959964 / (2 · 3.720411)
    ],
)
def test_wilson_gives_newcombes_values(correct, n, low, high):
    interval = wilson(correct, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("correct", "n"), [(1, 0), (5, 4), (-1, 4)])
def test_what_is_no_share_is_refused(correct, n):
    with pytest.raises(ValueError, match="no share"):
        wilson(correct, n)


def test_mcnemar_is_a_fair_coins_tail():
    assert mcnemar(4, 0) == 2 * 0.5**4  # 0.125: a best-of-N result of 45 → 65 % at n = 20 is that uncertain
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(3, 1) == 2 * (1 + 4) / 2**4


def test_a_clear_gain_is_kept_a_small_one_is_noise_and_a_loss_is_a_loss():
    best = [0.0] * 150 + [1.0] * 50
    gain, noise, loss = [1.0] * 100 + best[100:], [1.0] * 3 + best[3:-2] + [0.0] * 2, [0.0] * 200
    assert [verdict(paired(c, best))[0] for c in (gain, noise, loss)] == ["keep", "discard", "discard"]
    compared = paired(gain, best)
    assert (compared.delta, compared.gained, compared.lost, compared.n) == (0.5, 100, 0, 200)
    assert compared.low < 0.5 < compared.high
    assert "noise" in verdict(paired(noise, best))[1] and "Worse" in verdict(paired(loss, best))[1]


def test_the_bootstrap_covers_what_the_normal_approximation_covers():
    candidate = [1.0] * 130 + [0.0] * 70
    best = [0.0] * 60 + [1.0] * 140
    compared = paired(candidate, best)
    difference = [c - b for c, b in zip(candidate, best, strict=True)]
    mean = sum(difference) / 200
    error = (sum((d - mean) ** 2 for d in difference) / 200 / 200) ** 0.5
    assert compared.low == pytest.approx(mean - 1.96 * error, abs=0.02)
    assert compared.high == pytest.approx(mean + 1.96 * error, abs=0.02)


def test_lists_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="paired"):
        paired([1.0], [1.0, 0.0])


@pytest.mark.parametrize(("gained", "lost", "n"), [(20, 8, 200), (4, 0, 200), (25, 25, 50), (30, 0, 30), (0, 0, 10)])
def test_drawing_counts_gives_the_interval_that_drawing_items_gives(gained, lost, n):
    candidate = [1.0] * gained + [0.0] * lost + [1.0] * (n - gained - lost)
    best = [0.0] * gained + [1.0] * (n - gained)
    counts = paired(candidate, best, resamples=8000)
    items = paired([c / 2 for c in candidate], [b / 2 for b in best], resamples=8000)  # half marks: item by item
    assert counts.low == pytest.approx(2 * items.low, abs=2 / n)  # means come in steps of 1 / n
    assert counts.high == pytest.approx(2 * items.high, abs=2 / n)


def test_the_same_seed_gives_the_same_interval_and_no_change_gives_none():
    candidate, best = [1.0, 0.0, 1.0, 1.0] * 25, [0.0, 1.0, 1.0, 0.0] * 25
    assert paired(candidate, best, seed=3) == paired(candidate, best, seed=3)
    same = paired(best, best)
    assert (same.delta, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert verdict(same)[0] == "discard"


def test_part_marks_move_the_interval_and_count_for_mcnemar_from_one_half_on():
    compared = paired([0.5, 0.4, 0.9, 0.2], [0.4, 0.3, 0.6, 0.7])
    assert (compared.gained, compared.lost) == (1, 1)
    assert compared.delta == pytest.approx((0.1 + 0.1 + 0.3 - 0.5) / 4)
    assert compared.low < 0 < compared.high


def test_four_gained_and_none_lost_is_not_enough():
    compared = paired([1.0] * 4 + [0.0] * 196, [0.0] * 200)
    assert compared.low > 0 and compared.p == 0.125
    assert verdict(compared)[0] == "discard"
