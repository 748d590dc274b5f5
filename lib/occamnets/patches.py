"""Kernels of infinitely wide networks that see their input in patches: convolutional ones, without pooling.

The input is a product of spheres: patches, each uniform on the unit sphere in ``s`` dimensions. Each patch goes
through ``layers[0]`` hidden layers by itself; then ``fans[0]`` patches meet, and what they are together goes through
``layers[1]`` more; then ``fans[1]`` of such groups meet; and so on up to one output. Whether patches share their
weights makes no difference in the limit of wide layers: patches of different places never enter one product, as they
meet through independent weights. So the kernels depend on the cosines of the angles between patches of the same place
alone. They do not change when each patch is rotated by itself, so their eigenfunctions are products of harmonics, one
of each patch. The setting is that of Xiao (2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import factorial, gammaln

from occamnets import kernels

Degrees = int | Sequence[Any]
"""Of one patch its degree; of a group the degrees of those in it that are not constant."""
ORDER = 150
"""Moments up to this order are kept; factorials fit into a float up to that of 170."""


class Eigenvalues(NamedTuple):
    """Under the uniform probability measure on the product of the spheres, each that of one eigenfunction."""

    nngp: float
    """of the covariance of the outputs"""
    ntk: float
    """of the tangent kernel in the NTK parameterisation"""


def eigenvalues(
    degrees: Degrees,
    s: int,
    fans: Sequence[int],
    layers: Sequence[int],
    *,
    sigma_w: float = 2**0.5,
    sigma_b: float = 0.0,
) -> Eigenvalues:
    """The eigenvalues of one product of harmonics in ReLU networks.

    ``(2,)``: a quadratic function of one patch; ``(1, 1)``: a product of linear functions of two patches that meet
    first; ``((1,), (1,))``: of two patches in different groups. With ``layers = (0, 2)`` a fully connected network of
    two hidden layers, with ``(1, 0)`` one convolution and a linear readout. Weights have variance ``sigma_w**2 /
    fan_in``, but for a patch ``sigma_w**2``; biases ``sigma_b**2``.

    What a layer does to a covariance is expanded in powers around its mean, and a mean over independent patches
    multiplies generating functions of moments, so nothing is sampled. The tangent kernel is the derivative of the
    covariance by the logarithm of a factor that multiplies the covariance of two different inputs at each layer: that
    derivative obeys the recursion of Jacot et al. (2018). The series converge faster the larger ``s`` and the fans are:
    for degrees up to 3 and up to three layers before and after patches meet the relative error is below 1e-4 from
    ``s = 6`` on, and below 2e-5 from ``s = 8`` on, unless the eigenvalue all but vanishes, as that of degree 3 does in
    one layer when biases do. ``ValueError`` for degrees that do not fit the network, for numbers of layers that are not
    one more than the fans, for ``s`` below 2.

    >>> round(eigenvalues((1,), 4, (1,), (0, 0), sigma_w=1.0).nngp, 12)  # the kernel cos: 1/4 for each coordinate
    0.25
    """
    if len(layers) != len(fans) + 1 or min(layers) < 0 or min(fans, default=1) < 1 or s < 2:
        raise ValueError(
            f"s = {s}, fans = {fans}, layers = {layers}: need 2 dimensions or more, fans of 1 or more, and numbers of "
            "layers, one more of them than fans"
        )
    node = _node(degrees, s, tuple(fans), tuple(layers), sigma_w**2, sigma_b**2)
    return Eigenvalues(*((node.variance - node.centre) * node.moments[1, :, 1]).tolist())


class _Node(NamedTuple):
    """What a patch or group gives: the covariance ``k`` of its units at two inputs."""

    variance: float
    """``k`` at equal inputs"""
    centre: float
    """the mean of ``k``"""
    moments: Float[np.ndarray, "2 2 orders"]
    """means of ``u**j``, ``u = (k - centre) / (variance - centre)``: alone, then times the harmonics; of each first the
    mean, then its derivative by the logarithm of the factor that multiplies every covariance"""


def _node(degrees: Degrees, s: int, fans: tuple[int, ...], layers: tuple[int, ...], w: float, b: float) -> _Node:
    node = _meeting(degrees, s, fans, layers, w, b) if fans else _patch(degrees, s, w, b)
    for _ in range(layers[-1]):
        node = _through(node, w, b)
    return node


def _patch(degree: Degrees, s: int, w: float, b: float) -> _Node:
    """``k = b + w cos``."""
    if not isinstance(degree, int) or degree < 0:
        raise ValueError(f"degree = {degree}: that of a patch is one number of 0 or more")
    j, moments = np.arange(ORDER + 1), np.zeros((2, 2, ORDER + 1))
    for row, k in enumerate((0, degree)):
        m = j[k::2]  # E[cos**m P_k] = m! Gamma(s/2) / (2**m ((m - k)/2)! Gamma((m + k + s)/2))
        logs = gammaln(m + 1) + gammaln(s / 2) - gammaln((m - k) / 2 + 1) - gammaln((m + k + s) / 2)
        moments[row, 0, k::2] = np.exp(logs - m * np.log(2))
    return _multiplied(_Node(b + w, b, moments))


def _meeting(degrees: Degrees, s: int, fans: tuple[int, ...], layers: tuple[int, ...], w: float, b: float) -> _Node:
    """``k`` is the mean over the patches or groups."""
    *below, fan = fans
    if isinstance(degrees, int) or len(degrees) > fan:
        raise ValueError(f"degrees = {degrees}: a group of {fan} needs a sequence of as many or fewer")
    parts = [_node(each, s, tuple(below), layers[:-1], w, b) for each in [*degrees, () if below else 0]]
    one = parts[-1]
    j = np.arange(ORDER + 1)
    scale = np.exp(-gammaln(j + 1) - j * np.log(fan))  # moments to the generating function of a share of 1 / fan
    plain = one.moments[0] * scale
    alone, with_harmonics = _power(plain, fan), _power(plain, fan - len(degrees))
    for part in parts[:-1]:
        with_harmonics = _times(with_harmonics, part.moments[1] * scale)
    return _Node(one.variance, one.centre, np.stack([alone, with_harmonics]) * factorial(j))


def _through(node: _Node, w: float, b: float) -> _Node:
    """``k`` becomes ``b + w E[relu(u) relu(v)]``, with ``k`` the covariance of ``u`` and ``v``."""
    r, variance = node.centre / node.variance, b + w * node.variance / 2
    series = w * node.variance * _relu_series(r)
    series[0] += b
    centre = series @ node.moments[0, 0]
    series[0] -= centre
    series /= variance - centre
    powers = [np.eye(1, ORDER + 1)[0]]
    for _ in range(ORDER):
        powers.append(np.convolve(powers[-1], series)[: ORDER + 1])
    return _multiplied(_Node(variance, centre, node.moments @ np.array(powers).T))


def _relu_series(r: float) -> Float[np.ndarray, " orders"]:
    """`occamnets.kernels.arc_cosine_1` at the correlation ``r + (1 - r) u`` of unit variables, in powers of ``u``.

    Its second derivative by the correlation is ``1 / (2 pi y)`` with ``y**2 = 1 - correlation**2``, and ``1 / y`` obeys
    a differential equation of first order.
    """
    series = np.zeros(ORDER + 1)
    series[2] = (1 - r) ** 2 / (2 * np.pi * (1 - r**2) ** 0.5)
    for m in range(ORDER - 2):
        last = m * (1 - r) * series[m + 1]
        series[m + 3] = (r * (2 * m + 1) * series[m + 2] + last) / ((1 + r) * (m + 1))
    m = np.arange(2, ORDER + 1)
    series[2:] /= m * (m - 1)
    series[:2] = kernels.arc_cosine_1(r, 1.0, 1.0), (1 - r) * kernels.arc_cosine_0(r, 1.0, 1.0)
    return series


def _multiplied(node: _Node) -> _Node:
    """The derivatives once the factor has multiplied ``k`` itself: ``j u**(j - 1) (u + shift)`` more."""
    j, shift, moments = np.arange(1, ORDER + 1), node.centre / (node.variance - node.centre), node.moments.copy()
    moments[:, 1, 1:] += j * (moments[:, 0, 1:] + shift * moments[:, 0, :-1])
    return node._replace(moments=moments)


def _times(a: Float[np.ndarray, "2 orders"], b: Float[np.ndarray, "2 orders"]) -> Float[np.ndarray, "2 orders"]:
    """The product of two series, and its derivative."""
    product = [np.convolve(a[0], b[0]), np.convolve(a[0], b[1]) + np.convolve(a[1], b[0])]
    return np.stack(product)[:, : ORDER + 1]


def _power(a: Float[np.ndarray, "2 orders"], n: int) -> Float[np.ndarray, "2 orders"]:
    """The power of a series, and its derivative."""
    result = np.zeros_like(a)
    result[0, 0] = 1
    for digit in f"{n:b}":
        result = _times(result, result)
        if digit == "1":
            result = _times(result, a)
    return result
