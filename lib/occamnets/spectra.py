"""Spectra of zonal kernels, those that depend on the angle between inputs alone, on the circle and on spheres.

Under the uniform distribution on the unit sphere in ``d`` dimensions (``d = 2``: the circle) the eigenfunctions of
such a kernel are the harmonics of degrees 0, 1, ... The eigenvalue of degree ``k`` is the mean of ``kernel(theta)
P_k(cos(theta))``, where ``theta`` is the angle of a uniform point to a fixed one and ``P_k`` the Gegenbauer polynomial
with ``P_k(1) = 1``; on the circle ``P_k(cos(theta)) = cos(k theta)`` (the formula of Funk and Hecke). The kernel is
the sum of ``multiplicity * eigenvalue * P_k``, so that ``multiplicity @ eigenvalue`` is its value at equal inputs.
The conventions are those of the table in `occamnets.kernels`. Arrays begin at degree 0 and end at degree ``top``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.fft import dct
from scipy.special import beta, comb


def multiplicity(d: int, top: int) -> Float[np.ndarray, " degrees"]:
    """How many independent harmonics each degree has.

    >>> multiplicity(2, 3).tolist(), multiplicity(3, 3).tolist()
    ([1.0, 2.0, 2.0, 2.0], [1.0, 3.0, 5.0, 7.0])
    """
    k = np.arange(_checked(d, top) + 1)
    return comb(k + d - 2, d - 2) + comb(k + d - 3, d - 2)


def eigenvalues(
    kernel: Callable[[np.ndarray], np.ndarray], d: int, top: int, *, nodes: int
) -> Float[np.ndarray, " degrees"]:
    """The eigenvalues of ``kernel``, a function of the angle, by Fejer's quadrature in the angle.

    The error falls geometrically with ``nodes`` where the kernel is analytic in the angle from 0 to pi. All kernels of
    ReLU networks are, those of several layers and with biases too, though not in the cosine: there Gauss-Gegenbauer
    nodes gain only a power of their number. ``2 (top + d) + 100`` nodes suffice for a kernel that changes over angles
    of 0.1 or more. What stays is rounding, an absolute error: up to degree 400 below 1e-14 times the kernel at equal
    inputs, divided by the root of the multiplicity, then growing with the degree. An eigenvalue near that is noise; the
    closed forms below have all their digits.

    >>> round(float(eigenvalues(np.cos, 3, 1, nodes=20)[1]), 12)
    0.333333333333
    """
    if nodes < 2 * (_checked(d, top) + d):
        raise ValueError(f"nodes = {nodes}: degrees up to {top} in {d} dimensions need {2 * (top + d)} or more")
    theta = np.pi * np.sin((np.arange(nodes) + 0.5) * np.pi / (2 * nodes)) ** 2
    moments = np.zeros(nodes)  # of the Chebyshev polynomials
    moments[::2] = 2 / (1 - np.arange(0, nodes, 2) ** 2)
    weights = dct(moments, type=3) * np.sin(theta) ** (d - 2)
    weighted = kernel(theta) * weights / weights.sum()
    gap = 2 * np.sin(theta / 2) ** 2  # 1 - cos: the recurrence runs over differences of P_k, which keeps small angles
    values, last, step = [weighted.sum()], np.ones(nodes), -gap
    for k in range(1, top + 1):
        last = last + step
        values.append(weighted @ last)
        step = (k * step - (2 * k + d - 2) * gap * last) / (k + d - 2)
    return np.array(values)


def arc_cosine_0(d: int, top: int) -> Float[np.ndarray, " degrees"]:
    """The eigenvalues of `occamnets.kernels.arc_cosine_0` at variance 1; 0 for even degrees above 0.

    They are squares: of the mean of ``1(t > 0) P_k(t)`` over the coordinate ``t`` of a uniform point. For ``k = 1``
    that is ``1 / ((d - 1) beta(1/2, (d - 1)/2))``, and from ``k`` to ``k + 2`` it changes by the factor
    ``-k / (k + d)``. (Derived, by parts from the differential equation of ``P_k``.)

    >>> (arc_cosine_0(2, 3) * np.pi**2).round(12).tolist()[1:]
    [1.0, 0.0, 0.111111111111]
    """
    odd = np.arange(1, _checked(d, top) + 1, 2)
    first = 1 / ((d - 1) * beta(1 / 2, (d - 1) / 2))
    values = np.zeros(top + 1)
    values[0], values[1::2] = 1 / 4, np.cumprod(np.append(first, odd / (odd + d)))[:-1] ** 2
    return values


def arc_cosine_1(d: int, top: int) -> Float[np.ndarray, " degrees"]:
    """The eigenvalues of `occamnets.kernels.arc_cosine_1` at variance 1; 0 for odd degrees above 1.

    Degree ``k`` has that of `arc_cosine_0` of degree ``k - 1`` in ``d + 2`` dimensions, divided by ``d``; degree 0 has
    ``d`` times that of degree 1 in ``d`` dimensions. (Derived, as there.)

    >>> (arc_cosine_1(2, 2) * np.pi**2).round(12).tolist()[::2]
    [2.0, 0.222222222222]
    """
    return np.append(d * arc_cosine_0(d, 1)[1], arc_cosine_0(d + 2, _checked(d, top))[:-1] / d)


def times_cosine(values: Float[np.ndarray, " degrees"], d: int) -> Float[np.ndarray, " fewer"]:
    """The eigenvalues of ``cos(theta) kernel(theta)`` from those of ``kernel(theta)``, to one degree less.

    ``(2 k + d - 2) cos P_k = k P_{k-1} + (k + d - 2) P_{k+1}``, the recurrence of the polynomials. With it the closed
    forms give the tangent kernels of one hidden ReLU layer: from ``zero = arc_cosine_0(d, top + 1)`` and ``one =
    arc_cosine_1(d, top)``, first layer alone ``times_cosine(zero, d)``; both layers, that plus ``one``; biases
    from zero add ``zero[:-1]``. Only positive terms are added, so all digits stay, however small the eigenvalue.

    >>> times_cosine(np.array([1.0, 0.0, 0.0]), 3).round(12).tolist()
    [0.0, 0.333333333333]
    """
    if len(values) < 2:
        raise ValueError(f"{len(values)} eigenvalue: need those of degrees 0 and 1 or more")
    k = np.arange(len(values) - 1)
    below = k / np.maximum(2 * k + _checked(d, 0) + d - 2, 1)
    return below * np.append(0, values[:-2]) + (1 - below) * values[1:]


def _checked(d: int, top: int) -> int:
    if d < 2 or top < 0:
        raise ValueError(f"d = {d}, top = {top}: need 2 dimensions or more and a degree of 0 or more")
    return top
