"""Eigenvalues on products of spheres: quadrature over all patches, networks in which patches do not matter, rates."""

import numpy as np
import pytest
from scipy.special import eval_gegenbauer

from occamnets import kernels, patches, stats

W = 2.0
"""Variance of the weights times the fan-in, here and by default."""


def layer(k, theta, variance, b):
    """Covariance, tangent kernel and variance after one more hidden layer, by the recursion of Jacot et al."""
    after = b + W * kernels.arc_cosine_1(k, variance, variance)
    return after, after + W * kernels.arc_cosine_0(k, variance, variance) * theta, b + W * variance / 2


def through(cosines, layers, b):
    """Covariance and tangent kernel of one group of patches, from their cosines."""
    variance = b + W
    nodes = [(b + W * cosine, b + W * cosine) for cosine in cosines]
    for _ in range(layers[0]):
        nodes = [layer(*node, variance, b)[:2] for node in nodes]
        variance = b + W * variance / 2
    k, theta = (sum(each) / len(nodes) for each in zip(*nodes, strict=True))
    for _ in range(layers[1]):
        k, theta, variance = layer(k, theta, variance, b)
    return k, theta


def by_quadrature(degrees, s, layers, b):
    """On a grid of the angles of all patches."""
    nodes, weights = np.polynomial.legendre.leggauss(80)
    angles = np.pi * (nodes + 1) / 2
    weights = weights * np.sin(angles) ** (s - 2)
    cosines = np.meshgrid(*[np.cos(angles)] * len(degrees), indexing="ij")
    total = 1.0
    for axis, k in enumerate(degrees):
        harmonic = eval_gegenbauer(k, s / 2 - 1, np.cos(angles)) / eval_gegenbauer(k, s / 2 - 1, 1)
        shape = [-1 if axis == other else 1 for other in range(len(degrees))]
        total = (weights * harmonic / weights.sum()).reshape(shape) * total
    return [(total * kernel).sum() for kernel in through(cosines, layers, b)]


@pytest.mark.parametrize("b", [0.0, 0.3])
@pytest.mark.parametrize("layers", [(1, 0), (1, 1), (0, 2), (2, 1), (1, 2)])
@pytest.mark.parametrize("degrees", [(1,), (2,), (1, 1), (3,), (1, 2)])
def test_a_grid_of_all_angles_gives_the_same(degrees, layers, b):
    seen = patches.eigenvalues(degrees, 10, (2,), layers, sigma_b=b**0.5)
    expected = by_quadrature((*degrees, 0)[:2], 10, layers, b)
    np.testing.assert_allclose(seen, expected, rtol=2e-5, atol=1e-14)


def test_groups_of_groups_without_layers_between_are_one_group():
    for split, joined in ((((1,), (1,)), (1, 1)), (((1, 1),), (1, 1)), (((2,), (1, 1)), (2, 1, 1))):
        seen = patches.eigenvalues(split, 9, (2, 3), (1, 0, 1), sigma_b=0.5)
        np.testing.assert_allclose(seen, patches.eigenvalues(joined, 9, (6,), (1, 1), sigma_b=0.5), rtol=1e-10)


@pytest.mark.parametrize(("degrees", "i", "j"), [(((1, 1),), 0, 1), (((1,), (1,)), 0, 2)])
def test_random_angles_give_the_same_in_three_levels(degrees, i, j):
    """Patches in pairs, pairs in pairs: means over draws and signs within five standard errors."""
    s, b, gen = 9, 0.25, np.random.default_rng(np.random.SeedSequence([61, 67]))
    points = gen.standard_normal((4, 40_000, s))
    cosines = points[..., 0] / np.linalg.norm(points, axis=-1)
    means = np.zeros((2, cosines.shape[1]))
    for sign_i, sign_j in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        t = cosines.copy()
        t[[i, j]] *= np.array([[sign_i], [sign_j]])
        pairs, variance = [through(t[first : first + 2], (1, 1), b) for first in (0, 2)], b + W
        for _ in range(2):
            variance = b + W * variance / 2
        k, theta = (sum(each) / 2 for each in zip(*pairs, strict=True))
        means += np.array(layer(k, theta, variance, b)[:2]) * t[i] * t[j] / 4
    for seen, value in zip(means, patches.eigenvalues(degrees, s, (2, 2), (1, 1, 1), sigma_b=b**0.5), strict=True):
        mean = stats.mean(seen)
        assert abs(mean.value - value) < 5 * mean.error < value / 5


@pytest.mark.parametrize("layers", [(1, 1), (3, 3), (10, 10)])
def test_without_biases_the_weights_set_the_scale_alone(layers):
    """However deep and however small: each layer of weights gives a factor ``sigma_w**2``."""
    one, two = (patches.eigenvalues((1, 1), 8, (8,), layers, sigma_w=w) for w in (1.0, W**0.5))
    np.testing.assert_allclose(two, np.multiply(one, W ** (sum(layers) + 1)), rtol=1e-9)


def test_patches_that_meet_only_in_a_linear_readout_have_no_products():
    assert patches.eigenvalues((1, 1), 8, (4,), (2, 0)) == (0, 0)
    assert min(patches.eigenvalues((1, 1), 8, (4,), (2, 1))) > 1e-5


@pytest.mark.parametrize(
    ("degrees", "layers", "exponent"),
    [((2,), (1, 1), -3), ((1, 1), (1, 1), -4), ((3,), (1, 1), -4), ((2,), (0, 2), -4), ((3,), (0, 2), -6)],
)
def test_a_patch_and_a_degree_each_cost_a_factor(degrees, layers, exponent):
    """With as many patches as each has dimensions."""
    sizes = 256, 512
    for kernel in range(2):
        last, now = (patches.eigenvalues(degrees, s, (s,), layers, sigma_b=0.5)[kernel] for s in sizes)
        assert np.log2(now / last) == pytest.approx(exponent, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((2, 8, (4,), (1, 1)), "degrees = 2"),
        (((1, 1, 1), 8, (2,), (1, 1)), "group of 2"),
        (((-1,), 8, (2,), (1, 1)), "degree = -1"),
        (((1,), 8, (2,), (1,)), "one more"),
        (((1,), 1, (2,), (1, 1)), "s = 1"),
        (((1,), 8, (0,), (1, 1)), "fans = "),
    ],
)
def test_what_does_not_fit_is_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        patches.eigenvalues(*arguments)
