"""Closed forms against 50 digits, quadrature, Monte Carlo and one another; the recursion against finite networks."""

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy import special
from scipy.stats import binom

from occamnets import boolean, chunks, kernels, nets, stats

TANH = kernels.quadrature(np.tanh, nodes=100)
EXPECTATIONS = {  # name: (expectation, activation, activation on tensors)
    "step": (kernels.arc_cosine_0, lambda u: np.heaviside(u, 0.0), lambda u: torch.heaviside(u, u.new_zeros(()))),
    "relu": (kernels.arc_cosine_1, lambda u: np.maximum(u, 0.0), torch.relu),
    "erf": (kernels.erf, special.erf, torch.erf),
    "sine": (kernels.sine, np.sin, torch.sin),
    "gaussian": (kernels.gaussian, lambda u: np.exp(-(u**2) / 2), lambda u: torch.exp(-(u**2) / 2)),
    "tanh": (TANH, np.tanh, torch.tanh),
}
SMOOTH = ["erf", "sine", "gaussian"]
correlations = st.floats(-1, 1)
variances = st.floats(1e-3, 20)


def fresh(label):
    return np.random.SeedSequence([17, label])


def every(names):
    return pytest.mark.parametrize("name", names)


def angles(kernel):
    """Angles of all pairs, from one kernel matrix or a stack of them."""
    variance = np.diagonal(kernel, axis1=-2, axis2=-1)
    return kernels.angle(kernel, variance[..., :, None], variance[..., None, :])


def relu_map(rho):
    """The correlation after one ReLU layer, as Cho & Saul write it."""
    return (np.sqrt(1 - rho**2) + rho * (np.pi - np.arccos(rho))) / np.pi


# One pair of Gaussian numbers


@every(EXPECTATIONS)
@pytest.mark.parametrize("k", [(0.4, 1.0, 2.0), (-1.2, 0.8, 3.0), (2.9, 3.0, 3.0)])
def test_expectations_against_monte_carlo(name, k):
    expectation, activation, _ = EXPECTATIONS[name]
    k12, k11, k22 = k
    gen = np.random.default_rng(fresh(0))
    pairs = gen.standard_normal((200_000, 2)) @ np.linalg.cholesky([[k11, k12], [k12, k22]]).T
    seen = stats.mean(np.prod(activation(pairs), axis=1))
    assert abs(seen.value - expectation(*k)) < 5 * seen.error


@every(SMOOTH)
@given(correlations, variances, variances)
def test_closed_forms_against_quadrature(name, rho, k11, k22):
    closed, activation, _ = EXPECTATIONS[name]
    k = (rho * (k11 * k22) ** 0.5, k11, k22)
    assert float(kernels.quadrature(activation, nodes=150)(*k)) == pytest.approx(float(closed(*k)), abs=1e-12)


@given(correlations, variances, variances)
def test_derivatives_by_price_theorem(rho, k11, k22):
    """The derivative of ``E[f(u) f(v)]`` by the covariance is ``E[f'(u) f'(v)]``."""
    bound = (k11 * k22) ** 0.5
    k12, h = 0.99 * rho * bound, 1e-4 * bound

    def slope(expectation):
        return (expectation(k12 + h, k11, k22) - expectation(k12 - h, k11, k22)) / (2 * h)

    assert slope(kernels.arc_cosine_1) == pytest.approx(kernels.arc_cosine_0(k12, k11, k22), rel=1e-4, abs=1e-6)
    density = 4 / np.pi * kernels.gaussian(2 * k12, 2 * k11, 2 * k22)
    assert slope(kernels.erf) == pytest.approx(density, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "k", "same", "orthogonal", "opposite"),
    [
        ("step", 2.0, 1 / 2, 1 / 4, 0),
        ("relu", 2.0, 1, 1 / np.pi, 0),
        ("erf", 0.5, 1 / 3, 0, -1 / 3),
        ("sine", 0.5, (1 - np.exp(-1)) / 2, 0, (np.exp(-1) - 1) / 2),
        ("gaussian", 4.0, 1 / 3, 1 / 5, 1 / 3),
    ],
)
def test_the_same_an_orthogonal_and_the_opposite_input(name, k, same, orthogonal, opposite):
    seen = EXPECTATIONS[name][0](np.array([k, 0.0, -k]), k, k)
    np.testing.assert_allclose(seen, [same, orthogonal, opposite], rtol=1e-15, atol=1e-16)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("gap", [2.0**-k for k in (1, 5, 10, 20, 30, 40, 50)])
def test_digits_are_kept_near_parallel_and_opposite(sign, gap):
    """Against 50 digits, relative; near -1 the ReLU value itself is of the order gap**1.5."""
    rho = sign * (1 - gap)
    with mp.workdps(50):
        theta = mp.acos(mp.mpf(rho))
        exact = theta, (mp.pi - theta) / (2 * mp.pi), (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) / (2 * mp.pi)
    for scale in (1.0, 2.0**200, 2.0**-200):
        k = rho * 2 * scale, scale, 4 * scale
        seen = kernels.angle(*k), kernels.arc_cosine_0(*k), kernels.arc_cosine_1(*k) / (2 * scale)
        np.testing.assert_allclose(seen, np.array(exact, dtype=float), rtol=1e-14)


def test_digits_are_kept_at_large_variances_and_small_covariances():
    with mp.workdps(50):
        k = mp.mpf(10) ** 12
        saturated = float(2 / mp.pi * mp.asin(2 * k / (1 + 2 * k)))
        small = float(mp.exp(-1) * mp.sinh(mp.mpf(1e-30)))
    assert 1 - float(kernels.erf(1e12, 1e12, 1e12)) == pytest.approx(1 - saturated, rel=1e-9, abs=0)
    assert float(kernels.sine(1e-30, 1.0, 1.0)) == pytest.approx(small, rel=1e-15, abs=0)
    assert kernels.sine(np.array([1e4, -1e4]), 1e4, 1e4).tolist() == [0.5, -0.5]


def test_a_covariance_beyond_its_bound_by_rounding_lies_on_it():
    k11, k22 = 0.1, 0.3
    beyond = np.nextafter(np.sqrt(k11 * k22), 1)
    assert kernels.angle(np.array([beyond, -beyond]), k11, k22).tolist() == [0.0, np.pi]
    assert kernels.gaussian(beyond, k11, k22) == 1 / np.sqrt(1 + k11 + k22)


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("k22", [0.0, 0.6])
def test_a_variance_of_zero(zero, k22):
    assert [EXPECTATIONS[name][0](zero, 0.0, k22) for name in ("step", "relu", "erf", "sine", "tanh")] == [0] * 5
    assert kernels.angle(zero, 0.0, k22) == 0
    assert kernels.gaussian(zero, 0.0, k22) == pytest.approx((1 + k22) ** -0.5)
    assert kernels.quadrature(np.cos, nodes=60)(zero, 0.0, k22) == pytest.approx(np.exp(-k22 / 2))


@every(EXPECTATIONS)
def test_expectations_broadcast_and_are_symmetric(name):
    expectation = EXPECTATIONS[name][0]
    k12, k11, k22 = np.array([[[-0.3]], [[0.2]]]), np.array([[1.0], [0.5], [0.2]]), np.array([2.0, 1.0, 0.7, 0.5])
    seen = expectation(k12, k11, k22)
    assert seen.shape == (2, 3, 4)
    assert seen[1, 2, 3] == pytest.approx(float(expectation(0.2, 0.2, 0.5)), rel=1e-14)
    assert (seen == expectation(k12, k22, k11)).all()


# Quadrature


@pytest.mark.parametrize("k", [4.0, 16.0])
def test_quadrature_converges_at_the_rate_that_the_nearest_pole_sets(k):
    """tanh(u)**2 has double poles at pi i / 2: the error is in proportion to nodes * exp(-2 pi d nodes / (18 sd))."""
    nodes = np.array([60, 70, 80, 90])
    exact = kernels.quadrature(np.tanh, nodes=400)(k, k, k)
    errors = [abs(float(kernels.quadrature(np.tanh, nodes=int(n))(k, k, k) - exact)) for n in nodes]
    rate = np.polyfit(nodes, np.log(errors / (nodes - 1)), 1)[0]
    assert rate == pytest.approx(-(np.pi**2) / (2 * kernels.REACH * k**0.5), rel=0.01)


@pytest.mark.parametrize(("k", "error"), [(16.0, 3e-11), (64.0, 7e-6)])
def test_quadrature_of_tanh_is_as_good_as_its_docstring_says(k, error):
    rho = np.array([1.0, 0.9, 0.3, -0.7])
    seen, exact = (kernels.quadrature(np.tanh, nodes=n)(rho * k, k, k) for n in (200, 500))
    assert np.abs(seen - exact).max() == pytest.approx(error, rel=0.2, abs=0)


def test_a_kink_spoils_quadrature():
    errors = [
        abs(float(kernels.quadrature(EXPECTATIONS[name][1], nodes=200)(0.3, 1.0, 1.0) - closed(0.3, 1.0, 1.0)))
        for name, closed in (("step", kernels.arc_cosine_0), ("relu", kernels.arc_cosine_1))
    ]
    assert errors[0] > 1e-5
    assert errors[1] > 1e-8


def test_quadrature_computes_equal_pairs_once():
    rows = []

    def recorded(u):
        rows.append(len(u))
        return np.tanh(u)

    k = np.array([1.0, 2.0])
    seen = kernels.quadrature(recorded, nodes=30)(np.full((2, 2), 0.5), k[:, None], k)
    assert set(rows) == {3}
    assert seen[0, 1] == seen[1, 0] != seen[0, 0]


# ReLU layers without bias


def test_the_iterate_is_the_correlation_map_again_and_again():
    rho = np.linspace(-1, 0.99, 40)
    seen = kernels.relu_angles(np.arccos(rho), 6)
    for layer in seen:
        np.testing.assert_allclose(np.cos(layer), rho, rtol=0, atol=1e-14)
        rho = relu_map(rho)


@pytest.mark.parametrize("theta", [np.pi, 1.0, 1e-3, 1e-6, 1e-9])
def test_the_iterate_keeps_small_angles_to_the_last_digits(theta):
    seen = kernels.relu_angles(theta, 50)
    with mp.workdps(80):
        exact = [mp.mpf(theta)]
        for _ in range(50):
            exact.append(mp.acos((mp.sin(exact[-1]) + (mp.pi - exact[-1]) * mp.cos(exact[-1])) / mp.pi))
        gaps = [float(1 - mp.cos(t)) for t in exact]
    np.testing.assert_allclose(seen, np.array(exact, dtype=float), rtol=1e-14)
    np.testing.assert_allclose(2 * np.sin(seen / 2) ** 2, gaps, rtol=1e-14)


def test_small_angles_shrink_by_their_square():
    theta = np.geomspace(1e-5, 1e-2, 7)
    before, after = kernels.relu_angles(theta, 1)
    assert (np.abs((before - after) / theta**2 * 3 * np.pi - 1) < theta).all()
    gap, gap_after = (2 * np.sin(layer / 2) ** 2 for layer in (before, after))
    lost = (gap - gap_after) / gap**1.5
    np.testing.assert_allclose(lost, 2 * 2**0.5 / (3 * np.pi), rtol=1e-3)


def test_angles_fall_as_three_pi_over_depth():
    seen = kernels.relu_angles(np.array([np.pi, 1.0, 0.1]), 4000)
    rate = (1 / seen[4000] - 1 / seen[2000]) / 2000  # the difference removes what depends on the start
    np.testing.assert_allclose(rate, 1 / (3 * np.pi), rtol=2e-3)


def test_the_iterate_has_a_row_for_each_layer_and_fixes_zero():
    assert kernels.relu_angles(np.ones((2, 3)), 4).shape == (5, 2, 3)
    assert kernels.relu_angles(0.5, 0).tolist() == [0.5]
    assert kernels.relu_angles(0.0, 3).tolist() == [0.0] * 4


# Networks


def test_without_a_hidden_layer_the_kernel_is_the_scaled_inner_product():
    seen = kernels.nngp(np.array([[1, 2], [3, -4]]), 0, sigma_w=2.0, sigma_b=0.5)
    assert seen.tolist() == [[[10.25, -9.75], [-9.75, 50.25]]]


def test_small_integers_do_not_overflow():
    assert kernels.nngp(np.array([[100]], dtype=np.int8), 0).tolist() == [[[10_000.0]]]


def test_a_relu_layer_keeps_half_of_each_variance():
    seen = kernels.nngp(np.array([[1.0, 2.0], [-3.0, 0.0]]), 3, sigma_w=1.5, sigma_b=0.3).diagonal(axis1=1, axis2=2)
    np.testing.assert_allclose(seen[1:], 0.3**2 + 1.5**2 / 2 * seen[:-1], rtol=1e-14)


@pytest.mark.parametrize("sigma_w", [0.5, 2.0])
def test_without_biases_the_recursion_is_the_iterate_whatever_the_norms(sigma_w):
    inputs = np.random.default_rng(fresh(1)).standard_normal((6, 3)) * np.arange(1, 7)[:, None]
    seen = angles(kernels.nngp(np.vstack([inputs, -inputs[:1]]), 12, sigma_w=sigma_w))
    np.testing.assert_allclose(seen, kernels.relu_angles(seen[0], 12), rtol=0, atol=1e-7)


def test_an_input_of_zero_gives_zero_without_biases():
    seen = kernels.nngp(boolean.cube(2), 3)
    assert (seen[:, 0] == 0).all()
    assert (seen[:, 1:, 1:] > 0)[1:].all()


@pytest.mark.parametrize("expectation", [kernels.erf, kernels.sine, TANH])
def test_an_odd_network_without_biases_is_odd(expectation):
    inputs = np.random.default_rng(fresh(2)).standard_normal((3, 4))
    seen = kernels.nngp(np.vstack([inputs, -inputs]), 3, sigma_w=1.5, expectation=expectation)
    np.testing.assert_allclose(seen[:, 3:, :3], -seen[:, :3, :3], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("sigma_b", [0.0, 0.5, 2.0])
def test_relu_layers_turn_inputs_of_equal_norm_towards_one_another(sigma_b):
    seen = angles(kernels.nngp(2 * boolean.cube(4) - 1, 8, sigma_w=1.3, sigma_b=sigma_b))
    apart = ~np.eye(16, dtype=bool)
    assert (np.diff(seen, axis=0)[:, apart] < 0).all()


def test_with_biases_and_unequal_norms_an_angle_can_grow():
    """Two parallel inputs: the affine layer makes an angle, a bias in each further layer widens it for a while."""
    seen = angles(kernels.nngp(np.array([[10.0], [20.0]]), 8, sigma_b=1.1))[:, 0, 1]
    assert seen.argmax() == 6
    assert (np.diff(seen[:7]) > 0).all()


def output_products(widths, count, activation, sigma_w, sigma_b, inputs, label):
    """The products of outputs at all pairs of inputs, averaged over the outputs of each of ``count`` networks."""
    net = nets.dense(widths, sigma_w=sigma_w, sigma_b=sigma_b, activation=activation)
    seen = nets.outputs(net, torch.as_tensor(inputs), count, gen=chunks.generator(fresh(label))).numpy()
    return np.swapaxes(seen, 1, 2) @ seen / widths[-1]


@every(EXPECTATIONS)
def test_one_hidden_layer_has_the_kernel_at_any_width(name):
    expectation, _, activation = EXPECTATIONS[name]
    inputs = np.array([[1.0, 0.0, 0.5], [0.3, -1.0, 2.0], [-1.0, 0.0, -0.5]])
    kernel = kernels.nngp(inputs, 1, sigma_w=1.4, sigma_b=0.6, expectation=expectation)[1]
    products = output_products((3, 4, 8), 60_000, activation, 1.4, 0.6, inputs, 3)
    for i, j in zip(*np.triu_indices(3), strict=True):
        seen = stats.mean(products[:, i, j])
        assert abs(seen.value - kernel[i, j]) < 5 * seen.error


def test_finite_networks_miss_the_limit_by_the_order_of_one_over_width():
    """Twice the covariance at width 16 less that at width 8 has no error of that order, and meets the kernel."""
    inputs = np.array([[1.0, 0.0], [-1.0, 0.0]])
    kernel = kernels.nngp(inputs, 2, sigma_w=2.0, sigma_b=0.3, expectation=TANH)[2, 0, 1]
    narrow, wide = (
        stats.mean(output_products((2, w, w, 32), 60_000, torch.tanh, 2.0, 0.3, inputs, w)[:, 0, 1]) for w in (8, 16)
    )
    assert abs(narrow.value - kernel) > 5 * narrow.error
    assert abs(2 * wide.value - narrow.value - kernel) < 5 * np.hypot(2 * wide.error, narrow.error)


def relu_covariance_of_opposite_inputs(width):
    """Of the outputs at 1 and -1 of two hidden layers, ``sigma_w**2 = 2``, exact at any width of the first.

    ``m`` units are on at 1, the others at -1, so the variances are ``4 / width`` times independent chi-squares; their
    correlation is 0, so the covariance is the mean of ``sqrt(k11 k22) / pi``.
    """
    m = np.arange(width + 1)
    chi = 2**0.5 * np.exp(special.gammaln((m + 1) / 2) - special.gammaln(np.maximum(m, 0.5) / 2)) * (m > 0)
    return 4 / (np.pi * width) * binom.pmf(m, width, 0.5) @ (chi * chi[::-1])


def test_the_limit_is_that_of_an_exact_covariance_and_the_miss_is_three_over_twice_the_width():
    inputs = np.array([[1.0], [-1.0]])
    kernel = kernels.nngp(inputs, 2, sigma_w=2**0.5)[2, 0, 1]
    for width in (10, 100, 1000):
        miss = 1 - relu_covariance_of_opposite_inputs(width) / kernel
        assert abs(miss * width - 1.5) < 1 / width
    seen = stats.mean(output_products((1, 4, 8, 16), 60_000, torch.relu, 2**0.5, 0.0, inputs, 4)[:, 0, 1])
    assert abs(seen.value - relu_covariance_of_opposite_inputs(4)) < 5 * seen.error
    assert abs(seen.value - kernel) > 50 * seen.error


# What is impossible


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: kernels.nngp(np.eye(2), -1), "depth = -1"),
        (lambda: kernels.nngp(np.eye(2), 1, sigma_w=-0.5), r"sigma_w = -0\.5"),
        (lambda: kernels.nngp(np.eye(2), 1, sigma_b=-0.5), r"sigma_b = -0\.5"),
        (lambda: kernels.nngp(np.eye(2), 1, sigma_b=float("nan")), "sigma_b = nan"),
        (lambda: kernels.nngp(np.zeros((3, 0)), 1), r"shape \(3, 0\): .*1 coordinate or more"),
        (lambda: kernels.relu_angles(1.0, -2), "depth = -2"),
        (lambda: kernels.relu_angles(-0.1, 1), r"theta = -0\.1: .*between 0 and pi"),
        (lambda: kernels.relu_angles(np.array([1.0, 3.2]), 1), r"3\.2"),
        (lambda: kernels.relu_angles(float("nan"), 1), "theta = nan"),
        (lambda: kernels.quadrature(np.tanh, nodes=1), "nodes = 1"),
    ],
)
def test_what_is_impossible_is_named(build, named):
    with pytest.raises(ValueError, match=named):
        build()


def test_a_single_vector_is_no_list_of_points():
    with pytest.raises((ValueError, TypeCheckError), match=r"points n|shape \(3,\)"):
        kernels.nngp(np.ones(3), 1)
