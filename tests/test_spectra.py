"""Closed forms against quadrature, 30 digits, FFT, the trace and Gram matrices; quadrature against Bessel functions."""

import mpmath as mp
import numpy as np
import pytest
from scipy import special

from occamnets import kernels, spectra

SPHERES = [2, 3, 5, 10, 20]
CLOSED = [(spectra.arc_cosine_0, kernels.arc_cosine_0), (spectra.arc_cosine_1, kernels.arc_cosine_1)]
ROUNDING = 1e-14  # times the kernel at equal inputs, over the root of the multiplicity


def relu_kernel(depth, **options):
    """The tangent kernel of a ReLU network as a function of the angle between inputs of variance 1."""

    def kernel(theta):
        circle = 2**0.5 * np.stack([np.cos(theta), np.sin(theta)], axis=1)
        return kernels.ntk(2**0.5 * np.eye(2)[:1], depth, others=circle, **options)[-1, 0]

    return kernel


def deep(layers):
    """The kernel of Bietti & Bach with that many layers, whose value at equal inputs is ``layers``."""
    return relu_kernel(layers - 1, sigma_w=2**0.5, weight_rates=1.0)


def slope(values, degrees):
    return np.polyfit(np.log(degrees), np.log(values[degrees]), 1)[0]


# Harmonics


def test_multiplicity_counts_homogeneous_polynomials_less_those_that_are_multiples_of_the_square_of_the_norm():
    for d in range(2, 12):
        exact = [
            special.comb(k + d - 1, d - 1, exact=True) - (special.comb(k + d - 3, d - 1, exact=True) if k > 1 else 0)
            for k in range(30)
        ]
        assert spectra.multiplicity(d, 29).tolist() == exact


@pytest.mark.parametrize("d", SPHERES)
def test_quadrature_against_bessel_functions(d):
    """The mean of ``exp(c t) P_k(t)`` is ``gamma(nu + 1) (2 / c)**nu I_{k + nu}(c)``, ``nu = d / 2 - 1``."""
    k, nu, c = np.arange(41), d / 2 - 1, 3.0
    exact = special.gamma(nu + 1) * (2 / c) ** nu * special.iv(k + nu, c)
    seen = spectra.eigenvalues(lambda theta: np.exp(c * np.cos(theta)), d, 40, nodes=200)
    assert (np.abs(seen - exact) * np.sqrt(spectra.multiplicity(d, 40)) < ROUNDING * np.exp(c)).all()


@pytest.mark.parametrize("width", [0.1, 1.0])
def test_quadrature_against_the_transform_of_an_exponential(width):
    k = np.arange(301)
    exact = (1 - (-1.0) ** k * np.exp(-np.pi / width)) * width / (np.pi * (1 + (k * width) ** 2))
    seen = spectra.eigenvalues(lambda theta: np.exp(-theta / width), 2, 300, nodes=2 * 302 + 100)
    np.testing.assert_allclose(seen, exact, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("d", [2, 3, 6])
def test_quadrature_against_gauss_gegenbauer_nodes(d):
    """They agree for a kernel that is analytic in the cosine; at a ReLU kernel's kink those nodes gain a power only."""
    k, nu = np.arange(13)[:, None], d / 2 - 1

    def in_the_cosine(kernel, nodes):
        if d == 2:
            t, weights = special.roots_chebyt(nodes)
            harmonics = special.eval_chebyt(k, t)
        else:
            t, weights = special.roots_gegenbauer(nodes, nu)
            harmonics = special.eval_gegenbauer(k, nu, t) / special.eval_gegenbauer(k, nu, 1.0)
        return harmonics @ (weights * kernel(t)) / weights.sum()

    analytic = spectra.eigenvalues(lambda theta: 1 / (2 - np.cos(theta)), d, 12, nodes=200)
    np.testing.assert_allclose(analytic, in_the_cosine(lambda t: 1 / (2 - t), 100), rtol=0, atol=1e-14)
    exact = spectra.arc_cosine_0(d, 12)
    errors = [np.abs(in_the_cosine(lambda t: kernels.arc_cosine_0(t, 1.0, 1.0), n) - exact).max() for n in (50, 100)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(d, abs=0.2)


def test_quadrature_against_fft():
    """A grid of ``N`` points adds to each eigenvalue those of all degrees that it cannot tell from ``k``."""
    points = 512
    theta = np.abs(np.arange(points) - points / 2) * 2 * np.pi / points
    kernel = relu_kernel(3, sigma_b=0.2, sigma_w=1.4)
    k = np.arange(101)
    row = (np.fft.rfft(kernel(np.roll(theta, points // 2))).real / points)[:101]
    seen = spectra.eigenvalues(kernel, 2, 4 * points, nodes=9 * points)
    copies = sum(seen[m * points + k] + seen[m * points - k] for m in (1, 2, 3))
    far = 4 * points - k % 2  # the rest, where an eigenvalue is const / degree**2, one constant for each parity
    tail = seen[far] * (far / points) ** 2 * (special.zeta(2, 4 + k / points) + special.zeta(2, 4 - k / points))
    np.testing.assert_allclose(row, seen[:101] + copies + tail, rtol=0, atol=1e-11)
    assert np.abs(row - seen[:101]).min() > 1e-6


# Arc-cosine kernels


@pytest.mark.parametrize(("closed", "kernel"), CLOSED)
@pytest.mark.parametrize("d", SPHERES)
def test_closed_forms_against_quadrature(closed, kernel, d):
    seen = spectra.eigenvalues(lambda theta: kernel(np.cos(theta), 1.0, 1.0), d, 400, nodes=2 * (d + 400) + 100)
    assert (np.abs(seen - closed(d, 400)) * np.sqrt(spectra.multiplicity(d, 400)) < ROUNDING / 2).all()


@pytest.mark.parametrize("d", [2, 3, 10])
def test_closed_forms_are_squares_of_projections(d):
    """The mean of ``1(t > 0) t**p P_k(t)``, squared, times ``d`` for ReLU; relative, whatever the size."""
    zero, one = spectra.arc_cosine_0(d, 14), spectra.arc_cosine_1(d, 14)
    with mp.workdps(30):

        def projection(p, k):
            def harmonic(t):
                return mp.chebyt(k, t) if d == 2 else mp.gegenbauer(k, d / 2 - 1, t) / mp.gegenbauer(k, d / 2 - 1, 1)

            area = mp.quad(lambda a: mp.sin(a) ** (d - 2), [0, mp.pi])
            return mp.quad(lambda a: mp.cos(a) ** p * harmonic(mp.cos(a)) * mp.sin(a) ** (d - 2), [0, mp.pi / 2]) / area

        for k in (0, 1, 3, 9, 13):
            assert zero[k] == pytest.approx(float(projection(0, k) ** 2), rel=1e-14, abs=0)
        for k in (0, 1, 2, 8, 14):
            assert one[k] == pytest.approx(float(d * projection(1, k) ** 2), rel=1e-14, abs=0)
    assert (zero[2::2] == 0).all()
    assert (one[3::2] == 0).all()


@pytest.mark.parametrize("d", SPHERES)
def test_closed_forms_keep_their_digits_at_high_degree(d):
    """Against 40 digits of ``P_{k-1}(0) / ((d - 1) beta)``, the polynomial being that of ``d + 2`` dimensions."""
    zero, one = spectra.arc_cosine_0(d, 20_001), spectra.arc_cosine_1(d, 20_002)
    with mp.workdps(40):

        def exact(k, d):
            j, half = (k - 1) // 2, mp.mpf(1) / 2
            return (mp.rf(half, j) / mp.rf((d + 1) * half, j) / ((d - 1) * mp.beta(half, (d - 1) * half))) ** 2

        for k in (1, 101, 20_001):
            assert zero[k] == pytest.approx(float(exact(k, d)), rel=1e-12, abs=0)
            assert one[k + 1] == pytest.approx(float(exact(k, d + 2) / d), rel=1e-12, abs=0)


@pytest.mark.parametrize("d", SPHERES)
def test_decay_rates(d):
    """``k**-d`` for the step and the tangent kernel, ``k**-(d + 2)`` for ReLU features (Bietti & Bach 2020)."""
    zero, one = spectra.arc_cosine_0(d, 10_001), spectra.arc_cosine_1(d, 10_000)
    degrees = np.arange(1001, 10_000, 100)
    assert slope(zero, degrees) == pytest.approx(-d, abs=0.01 * d)
    assert slope(one, degrees + 1) == pytest.approx(-d - 2, abs=0.01 * d)
    assert slope(spectra.times_cosine(zero, d) + one, degrees + 1) == pytest.approx(-d, abs=0.01 * d)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_trace(d):
    """The sum over all harmonics is the value at equal inputs, 1/2; the tail falls as 1 / top, ReLU's as its cube."""

    def trace(closed, top):
        return spectra.multiplicity(d, top) @ closed(d, top)

    assert 2 * trace(spectra.arc_cosine_0, 20_000) - trace(spectra.arc_cosine_0, 10_000) == pytest.approx(0.5, abs=1e-7)
    assert 1e-5 < 0.5 - trace(spectra.arc_cosine_0, 10_000) < 1e-3
    assert trace(spectra.arc_cosine_1, 10_000) == pytest.approx(0.5, abs=1e-10)


@pytest.mark.parametrize("d", [2, 3, 7])
def test_times_cosine(d):
    def kernel(theta):
        return kernels.arc_cosine_0(np.cos(theta), 1.0, 1.0)

    seen = spectra.eigenvalues(lambda theta: np.cos(theta) * kernel(theta), d, 30, nodes=200)
    closed = spectra.times_cosine(spectra.arc_cosine_0(d, 31), d)
    np.testing.assert_allclose(closed, seen, rtol=0, atol=ROUNDING)
    assert closed.shape == (31,)
    assert (closed[3::2] == 0).all()


# Five kernels of one hidden ReLU layer on the circle


def on_the_circle():
    """Closed forms for each kernel: at degrees 0 and 1, at even degrees, at odd ones; derived by hand."""
    k = np.arange(41.0)
    pi2, even, gap = np.pi**2, k % 2 == 0, (k**2 - 1) ** 2
    with np.errstate(divide="ignore"):
        rows = {
            "first": (1 / pi2, 1 / 8, (k**2 + 1) / (pi2 * gap), 0 * k),
            "first, bias": (1 / 8 + 0.5 / pi2, 1 / 16 + 0.5 / pi2, (k**2 + 1) / (2 * pi2 * gap), 0.5 / (pi2 * k**2)),
            "features": (2 / pi2, 1 / 8, 2 / (pi2 * gap), 0 * k),
            "both": (3 / pi2, 1 / 4, (k**2 + 3) / (pi2 * gap), 0 * k),
            "both, bias": (3 / pi2 + 1 / 4, 1 / 4 + 1 / pi2, (k**2 + 3) / (pi2 * gap), 1 / (pi2 * k**2)),
        }
    return {name: np.append([at_0, at_1], np.where(even, e, o)[2:]) for name, (at_0, at_1, e, o) in rows.items()}


TABLE = on_the_circle()
RATES = {
    "first": {"weight_rates": (1, 0)},
    "first, bias": {"weight_rates": (0.5, 0), "bias_rates": (0.5, 0)},  # features (x, 1) / sqrt(2)
    "features": {"weight_rates": (0, 1)},
    "both": {},
    "both, bias": {"bias_rates": (1, 0)},
}


def test_five_kernels_from_their_parts():
    zero, one = spectra.arc_cosine_0(2, 41), spectra.arc_cosine_1(2, 40)
    first = spectra.times_cosine(zero, 2)
    parts = {
        "first": first,
        "first, bias": (first + zero[:-1]) / 2,
        "features": one,
        "both": first + one,
        "both, bias": first + one + zero[:-1],
    }
    for name, values in parts.items():
        np.testing.assert_allclose(values, TABLE[name], rtol=2e-15)


@pytest.mark.parametrize("name", TABLE)
def test_five_kernels_from_the_recursion(name):
    seen = spectra.eigenvalues(relu_kernel(1, **RATES[name]), 2, 40, nodes=200)
    np.testing.assert_allclose(seen, TABLE[name], rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", TABLE)
def test_five_kernels_from_gram_matrices(name):
    """On ``N`` equal steps the Gram matrix over ``N`` has for each degree the sum over all that look alike."""
    points = 16
    theta = np.arange(points) * 2 * np.pi / points
    gram = kernels.ntk(2**0.5 * np.stack([np.cos(theta), np.sin(theta)], axis=1), 1, **RATES[name])[1]
    d, top = 2, 80_000
    zero, one = spectra.arc_cosine_0(d, top + 1), spectra.arc_cosine_1(d, top)
    (w1, w2), (b1, _) = RATES[name].get("weight_rates", (1, 1)), RATES[name].get("bias_rates", (0, 0))
    values = w1 * spectra.times_cosine(zero, d) + w2 * one + b1 * zero[:-1]
    all_degrees = np.append(values[:0:-1], values)[:-1]  # from -top to top - 1, a multiple of the points
    folded = np.sort(all_degrees.reshape(-1, points).sum(axis=0))
    np.testing.assert_allclose(np.linalg.eigvalsh(gram) / points, folded, rtol=0, atol=1e-5)
    np.testing.assert_allclose(gram.trace() / points, folded.sum() + 2 * values[-2:].mean() * top, rtol=1e-8)


def test_rates_of_the_first_nine_degrees_are_flattest_for_a_sobolev_weight_of_one_and_a_half():
    degree, rates = np.arange(1, 10), TABLE["first, bias"][1:10]
    spread = [np.ptp(np.log(rates * (1 + degree) ** (2 * s))) for s in (0, 1, 1.5, 2, 3)]
    np.testing.assert_allclose(np.exp(spread), [181, 7.2, 2.51, 4.3, 86], rtol=0.01)
    assert np.polyfit(np.log(1 + degree), np.log(rates), 1)[0] == pytest.approx(-3.20, abs=0.005)


# Deep networks


@pytest.mark.parametrize(("layers", "exponent", "ratio"), [(3, -2.0006, 178), (4, -2.0006, 88), (10, -1.9994, 17.8)])
def test_deep_relu_kernels_decay_as_the_square_on_the_circle(layers, exponent, ratio):
    """At equal inputs the slope is ``-layers (layers - 1) / (2 pi)``, which sets the mean of both parities."""
    seen = spectra.eigenvalues(deep(layers), 2, 401, nodes=1500)
    for first in (50, 51):
        assert slope(seen, np.arange(first, 401, 2)) == pytest.approx(exponent, abs=2e-4)
    assert seen[1] / seen[9] == pytest.approx(ratio, abs=0.5)
    mean = (seen[400] * 400**2 + seen[401] * 401**2) / 2
    assert mean == pytest.approx(layers * (layers - 1) / (2 * np.pi**2), rel=3e-3)


@pytest.mark.parametrize("d", [2, 4])
def test_trace_of_a_deep_kernel(d):
    """What lies beyond the top degree falls as its inverse, the parities apart."""
    tops = np.array([400, 800, 1600])
    values = spectra.multiplicity(d, 1600) * spectra.eigenvalues(deep(4), d, 1600, nodes=4000)
    s1, s2, s3 = (values[: top + 1].sum() - values[top] / 2 for top in tops)
    assert 4 - s3 > 1e-4
    assert (s1 - 6 * s2 + 8 * s3) / 3 == pytest.approx(4, abs=1e-6)


def test_a_kernel_with_biases_on_the_sphere():
    zero = spectra.arc_cosine_0(3, 41)
    closed = spectra.times_cosine(zero, 3) + spectra.arc_cosine_1(3, 40) + zero[:-1]
    kernel = relu_kernel(1, bias_rates=(1, 0))
    np.testing.assert_allclose(spectra.eigenvalues(kernel, 3, 40, nodes=200), closed, rtol=0, atol=ROUNDING)
    assert slope(closed, np.arange(10, 41)) == pytest.approx(-2.95, abs=0.005)


@pytest.mark.parametrize(("power", "ratio"), [(0, 1), (0.5, 0.132), (1, 0.0134), (1.5, 0.00276), (2, 0.00148)])
def test_fourier_features_set_the_spectrum(power, ratio):
    """Three hidden layers on 128 points, features ``j**-power`` for ``j`` up to 64; power 0 treats all alike."""
    j, x = np.arange(1.0, 65), np.arange(128) / 128
    size = j**-power / np.linalg.norm(j**-power)
    waves = 2 * np.pi * np.outer(x, j)
    features = np.concatenate([size * np.sin(waves), size * np.cos(waves)], axis=1)
    row = kernels.ntk(128**0.5 * features, 3, sigma_w=2**0.5)[3, 0]
    seen = np.fft.rfft(row).real / 128
    assert seen[32] / seen[1] == pytest.approx(ratio, rel=0.005)


# What is impossible


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: spectra.multiplicity(1, 3), "d = 1"),
        (lambda: spectra.arc_cosine_0(1, 3), "d = 1"),
        (lambda: spectra.arc_cosine_0(2, -1), "top = -1"),
        (lambda: spectra.arc_cosine_1(2, -1), "top = -1"),
        (lambda: spectra.times_cosine(np.ones(3), 1), "d = 1"),
        (lambda: spectra.times_cosine(np.ones(1), 2), "1 eigenvalue: "),
        (lambda: spectra.eigenvalues(np.cos, 1, 3, nodes=100), "d = 1"),
        (lambda: spectra.eigenvalues(np.cos, 2, 3, nodes=9), "nodes = 9: .* 10 or more"),
    ],
)
def test_what_is_impossible_is_named(build, named):
    with pytest.raises(ValueError, match=named):
        build()


def test_degree_zero_alone():
    assert spectra.arc_cosine_0(3, 0).tolist() == [0.25]
    assert spectra.arc_cosine_1(2, 0) == pytest.approx(2 / np.pi**2)
    assert spectra.multiplicity(2, 0).tolist() == [1.0]
    assert spectra.eigenvalues(np.ones_like, 4, 0, nodes=20).tolist() == pytest.approx([1.0])
