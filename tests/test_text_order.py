"""The computed order is a permutation, looks like a shuffle, and is the key's alone."""

import numpy as np
import pytest
from scipy import stats

from mytnano.text.order import ROUNDS, KeyedPermutation


def keyed(n, key=0):
    return KeyedPermutation(n, np.random.default_rng(key).bytes(8 * ROUNDS))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 1000, 4096, 65_537])
def test_every_number_once(n):
    for key in range(3):
        assert np.array_equal(np.sort(keyed(n, key)[np.arange(n)]), np.arange(n))


def test_any_place_by_itself():
    n = 10**12 + 39
    places = np.array([0, 5, n - 1, 123_456_789_012])
    found = keyed(n)[places]
    assert len(set(found.tolist())) == 4 and found.min() >= 0 and found.max() < n
    assert [int(keyed(n)[np.array([place])][0]) for place in places] == found.tolist()


def test_keys_differ():
    orders = {tuple(keyed(50, key)[np.arange(50)]) for key in range(200)}
    assert len(orders) == 200


def test_it_looks_like_a_shuffle():
    n = 100_000
    order = keyed(n)[np.arange(n)]
    assert stats.kstest(order[:2000] / n, "uniform").pvalue > 1e-3
    assert abs(stats.spearmanr(np.arange(n), order).statistic) < 4 / np.sqrt(n)
    assert abs(stats.spearmanr(order[:-1], order[1:]).statistic) < 4 / np.sqrt(n)
    # Over many keys, each of six numbers comes to each of six places equally often.
    counts = np.zeros((6, 6))
    for key in range(1800):
        counts[np.arange(6), keyed(6, key)[np.arange(6)]] += 1
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_bad_arguments():
    for n, key in ((0, bytes(8 * ROUNDS)), (5, b"short")):
        with pytest.raises(ValueError, match="a number and 8 bytes"):
            KeyedPermutation(n, key)
