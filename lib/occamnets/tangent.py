"""The tangent kernel of finite networks, networks linearised in their parameters, and how those learn.

The tangent kernel of a network is ``J(x1) J(x2)^T``, where ``J(x)`` is the Jacobian of its outputs at ``x`` by its
parameters: through it, gradient descent moves the outputs (Jacot, Gabriel and Hongler 2018).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from occamnets.nets import Network, Parameters

MOVING = {
    "ntk": lambda layer: (layer.weight_sd**2, layer.bias_sd**2),
    "standard": lambda layer: (1.0, float(layer.bias_sd > 0)),
}
"""For each parameterisation, what the weights and the biases of a layer count in the kernel."""
HALVED = 512
"""A block with more rows than this, points or outputs of points, halves its kernel with itself and mirrors a half."""


def kernel(
    net: Network,
    parameters: list[Parameters],
    x1: Float[np.ndarray, "points1 n"],
    x2: Float[np.ndarray, "points2 n"] | None = None,
    *,
    parameterisation: str = "ntk",
    full: bool = False,
    rows: int = 2048,
) -> Float[np.ndarray, "networks points1 points2 *pair"]:
    """The tangent kernel of each network between two sets of points, or of one set with itself.

    With ``full`` for all pairs of outputs, (networks, points1, points2, outs, outs); otherwise the mean over the
    outputs of each one's own kernel, (networks, points1, points2). In the ``"ntk"`` parameterisation the numbers that
    move are those at unit scale, which ``weight_sd`` and ``bias_sd`` multiply: this kernel has a limit at infinite
    width. In the ``"standard"`` one they are the weights and biases themselves, as in `occamnets.train`. A layer with
    ``bias_sd = 0`` has no biases. The activation must act on each number alone, and torch must know its derivative.

    No Jacobian is formed: what a layer adds is the Gram matrix of the signals that enter it times, entry by entry, that
    of the derivatives of the outputs by what it gives (Novak, Sohl-Dickstein and Schoenholz 2022). About ``rows`` rows
    of the Jacobians, one for a network, point and output, stand for a block: beside the result, memory does not grow
    with the points. Precision is that of ``x1``, the device that of the parameters. ``ValueError`` for points of
    another dimension than the network's, another parameterisation, or ``rows`` below 1.
    """
    for x in (x1, x1 if x2 is None else x2):
        if x.shape[1] != net.layers[0].fan_in:
            raise ValueError(f"points of dimension {x.shape[1]} into a network of {net.layers[0].fan_in} inputs")
    if parameterisation not in MOVING:
        raise ValueError(f"parameterisation = {parameterisation!r}: it is one of {', '.join(MOVING)}")
    if rows < 1:
        raise ValueError(f"rows = {rows}: need 1 or more")
    like, outs = parameters[0].weights, net.layers[-1].fan_out
    left = torch.tensor(x1, device=like.device)
    right = left if x2 is None else torch.tensor(x2, dtype=left.dtype, device=like.device)
    scales, each = [MOVING[parameterisation](layer) for layer in net.layers], outs if full else 1
    points = max(1, min(rows // outs, max(len(left), len(right))))
    networks = max(1, rows // (points * outs))
    result = left.new_empty((len(like), len(left) * each, len(right) * each), device="cpu")
    for k in range(0, len(like), networks):
        some, part = _cast(parameters, left, slice(k, k + networks)), result[k : k + networks]
        for i in range(0, len(left), points):
            one = _signals(net, some, left[i : i + points])
            for j in range(i if x2 is None else 0, len(right), points):
                other = one if x2 is None and i == j else _signals(net, some, right[j : j + points])
                here, there = (slice(start * each, (start + points) * each) for start in (i, j))
                _fill(part[:, here, there], scales, one, other)
                if x2 is None and i < j:
                    part[:, there, here] = part[:, here, there].mT
    if not full:
        return result.numpy()
    return result.numpy().reshape(len(like), len(left), outs, len(right), outs).swapaxes(2, 3)


def linearised(
    net: Network, start: list[Parameters], end: list[Parameters], inputs: Float[np.ndarray, "points n"]
) -> Float[np.ndarray, "networks outs points"]:
    """What the networks, linearised in their parameters at ``start``, answer at ``end``: ``f + J (end - start)``.

    The same in both parameterisations. Precision is that of the inputs. (Lee et al. 2019)
    """
    x = torch.tensor(inputs, device=start[0].weights.device)
    at, to = (_cast(parameters, x) for parameters in (start, end))
    signal, change = x.expand(len(at[0].weights), -1, -1), 0
    for depth, (here, there) in enumerate(zip(at, to, strict=True)):
        if depth:
            signal, slope = _activated(net, signal)
            change = (slope * change) @ here.weights.mT
        change = change + torch.baddbmm((there.biases - here.biases).mT, signal, (there.weights - here.weights).mT)
        signal = torch.baddbmm(here.biases.mT, signal, here.weights.mT)
    return (signal + change).mT.cpu().numpy()


def descent(
    theta: Float[np.ndarray, "kernels points train *pair"],
    start: Float[np.ndarray, "starts outs points"],
    targets: Float[np.ndarray, "train outs"],
    steps: Int[np.ndarray, " times"],
    *,
    lr: float,
) -> Float[np.ndarray, "times networks outs points"]:
    """Outputs of linearised networks after so many steps of full-batch gradient descent on `occamnets.train.MSE`.

    The training points come first among the points. ``theta`` is the kernel of all points with the training points, in
    the parameterisation that moves, for all pairs of outputs or one that serves each output; ``start`` are the outputs
    before the first step. A kernel for each network, or one for all; a start likewise. Float64.

    A step takes the residuals ``r`` on the training points to ``r - lr 2 / (train outs) theta r``. Gradient flow for
    a time ``t`` (Lee et al. 2019) is the limit of ``n`` steps with ``lr = t / n``, and differs from them by the order
    of 1 / n; a large ``n`` takes no longer than a small one. ``ValueError`` for shapes that do not fit, for a kernel
    of the training points that is not symmetric, for negative ``steps`` or ``lr``.

    >>> descent(np.eye(1)[None], np.zeros((1, 1, 1)), np.ones((1, 1)), np.arange(4), lr=0.25).ravel().tolist()
    [0.0, 0.5, 0.75, 0.875]
    """
    points, (train, outs) = start.shape[2], targets.shape
    if theta.shape[1:] not in {(points, train), (points, train, outs, outs)} or start.shape[1] != outs:
        raise ValueError(
            f"kernel {theta.shape}, start {start.shape}, targets {targets.shape}: need (networks, points, train) or "
            "(networks, points, train, outs, outs), (networks, outs, points), (train, outs)"
        )
    if (steps < 0).any() or not lr >= 0:
        raise ValueError(f"steps = {steps}, lr = {lr}: neither can be negative")
    matrix, before, goal = theta.astype(np.float64), start.mT.astype(np.float64), targets
    if theta.ndim == 5:  # a row for each point and output
        matrix = matrix.swapaxes(2, 3).reshape(len(theta), points * outs, train * outs)
        before, goal = before.reshape(len(start), points * outs, 1), targets.reshape(train * outs, 1)
    square = matrix[:, : len(goal)]
    if not np.allclose(square, square.mT, rtol=0, atol=1e-4 * np.abs(square).max(initial=0)):
        raise ValueError("the kernel of the training points, the first of all points, is not symmetric")
    values, vectors = np.linalg.eigh(square)
    rate = 2 * lr / targets.size
    learnt = _geometric(rate * values, steps[:, None, None])[..., None] * (vectors.mT @ (before[:, : len(goal)] - goal))
    after = before - rate * matrix @ vectors @ learnt
    return after.reshape(len(steps), -1, points, outs).mT


def _geometric(
    x: Float[np.ndarray, "kernels modes"], count: Int[np.ndarray, "times 1 1"]
) -> Float[np.ndarray, "times kernels modes"]:
    """The sum of ``(1 - x)**s`` over ``s`` from 0 to ``count - 1``; keeps its digits at small ``x``."""
    gone = np.where(x < 0.5, -np.expm1(count * np.log1p(-np.minimum(x, 0.5))), 1 - (1 - x) ** count)
    return np.divide(gone, x, out=np.broadcast_to(count, gone.shape).astype(x.dtype), where=x != 0)


class _Signals(NamedTuple):
    """What a block of points sends through a layer."""

    entering: Float[torch.Tensor, "networks points fan_in"]
    back: Float[torch.Tensor, "networks points outs fan_out"]
    """derivatives of the network's outputs by what the layer gives"""


def _cast(parameters: list[Parameters], like: torch.Tensor, some: slice = slice(None)) -> list[Parameters]:
    """Those of some of the networks, in the precision of ``like``, with a bias for every unit."""
    return [Parameters(*(t.detach().expand(*w.shape[:2], -1)[some].to(like) for t in (w, b))) for w, b in parameters]


def _activated(
    net: Network, signal: Float[torch.Tensor, "networks points units"]
) -> tuple[Float[torch.Tensor, "networks points units"], Float[torch.Tensor, "networks points units"]]:
    """The activation and its derivative."""
    with torch.enable_grad():
        active = net.activation(signal.requires_grad_())
    return active.detach(), *torch.autograd.grad(active, signal, torch.ones_like(active))


def _signals(net: Network, parameters: list[Parameters], points: Float[torch.Tensor, "points n"]) -> list[_Signals]:
    """First layer to last."""
    entering, slopes = [points.expand(len(parameters[0].weights), -1, -1)], []
    for weights, biases in parameters[:-1]:
        active, slope = _activated(net, torch.baddbmm(biases.mT, entering[-1], weights.mT))
        entering.append(active)
        slopes.append(slope)
    last = parameters[-1].weights
    back = [torch.eye(last.shape[1]).to(last).expand(len(last), len(points), -1, -1)]
    for (weights, _), slope in zip(parameters[:0:-1], reversed(slopes), strict=True):
        through = (back[-1].flatten(1, 2) @ weights).unflatten(1, (len(points), -1))
        back.append(through.mul_(slope[:, :, None]))
    return list(map(_Signals, entering, reversed(back)))


def _fill(
    result: Float[torch.Tensor, "networks rows columns"],
    scales: list[tuple[float, float]],
    one: list[_Signals],
    other: list[_Signals],
) -> None:
    """The kernel between two blocks of points; rows and columns are points, or outputs of points."""
    points, outs = one[0].back.shape[1:3]
    if one is other and points > 1 and result.shape[1] > HALVED:
        half = points // 2
        first, last = ([_Signals(*(t[:, cut] for t in layer)) for layer in one] for cut in np.s_[:half, half:])
        half *= result.shape[1] // points
        _fill(result[:, :half, :half], scales, first, first)
        _fill(result[:, :half, half:], scales, first, last)
        _fill(result[:, half:, half:], scales, last, last)
        result[:, half:, :half] = result[:, :half, half:].mT
        return
    total = 0
    for (of_weights, of_biases), mine, theirs in zip(scales, one, other, strict=True):
        offset = mine.entering.new_tensor([[[of_biases]]])
        moves = torch.baddbmm(offset, mine.entering, theirs.entering.mT, alpha=of_weights)
        if result.shape[1] == points:
            pulls = mine.back.flatten(2) @ theirs.back.flatten(2).mT
            total += pulls.mul_(moves / outs)
        else:
            pulls = mine.back.flatten(1, 2) @ theirs.back.flatten(1, 2).mT
            pairs = pulls.unflatten(2, (-1, outs)).unflatten(1, (-1, outs))
            pairs *= moves[:, :, None, :, None]
            total += pulls
    result[:] = total
