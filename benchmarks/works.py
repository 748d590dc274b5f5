"""The works that are measured: as the library does each, and as one would plainly write it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from occamnets import boolean, nets, prior, settings, train

STREAM = settings.load({}).stream("benchmarks")
WIDTHS = (7, 40, 40, 1)
"""Of the network that chapter I samples."""
POINTS, STEPS = 64, 50
"""Of the training set, and of the training."""
ADAM = partial(torch.optim.Adam, lr=1e-3)


class Cost(NamedTuple):
    """What one unit of a work cannot do without."""

    normals: float = 0
    """random numbers"""
    flops: float = 0
    """floating-point operations of its matrix products, two a multiplication"""
    traffic: float = 0
    """bytes read or written"""


class Work(NamedTuple):
    """One work, done in two ways."""

    unit: str
    """what is counted"""
    ours: Callable[[int], Any]
    """does so many pieces of it by the library"""
    size: int
    """pieces that take about a second or two"""
    cost: Cost
    """of a unit"""
    plain: Callable[[int], Any]
    """does so many pieces of it as one would write it without the library"""
    plain_size: int
    """pieces for that"""
    units: int = 1
    """in a piece"""


def perceptron_counts(n: int) -> Work:
    """How many perceptrons without bias are 1 on t of the points of {0,1}^n, for each t."""
    points = torch.as_tensor(boolean.cube(n)).float()
    return Work(
        "draws",
        lambda draws: prior.count_ones(nets.perceptron(n), boolean.cube(n), draws, stream=STREAM),
        32_000_000,
        Cost(normals=n),
        lambda draws: ((torch.randn(draws, n) @ points.T) > 0).sum(1).bincount(minlength=2**n + 1),
        1_000_000,
    )


def perceptron_functions(n: int) -> Work:
    """The functions of perceptrons without bias, and how often each comes up."""
    points = torch.as_tensor(boolean.cube(n)).float()
    return Work(
        "draws",
        lambda draws: prior.count_functions(nets.perceptron(n), draws, stream=STREAM),
        1_000_000,
        Cost(normals=n),
        lambda draws: ((torch.randn(draws, n) @ points.T) > 0).unique(dim=0, return_counts=True),
        100_000,
    )


def network_functions(widths: tuple[int, ...]) -> Work:
    """The functions of random ReLU networks, and how often each comes up."""
    points = torch.as_tensor(boolean.cube(widths[0])).float()

    def plain(networks: int) -> Counter[bytes]:
        seen = Counter()
        with torch.no_grad():
            for _ in range(networks):
                seen[(module(widths)(points)[:, 0] > 0).numpy().tobytes()] += 1
        return seen

    return Work(
        "networks",
        lambda networks: prior.count_functions(nets.dense(widths, sigma_b=1.0), networks, stream=STREAM),
        100_000,
        Cost(normals=parameters(widths), flops=2 * len(points) * multiplications(widths)),
        plain,
        1000,
    )


def training(widths: tuple[int, ...]) -> Work:
    """So many networks trained for `STEPS` steps of Adam on `POINTS` random points of the cube with random labels.

    The library also looks, before every step, at how many points a network gets wrong; the plain way does not.
    """
    random = np.random.default_rng(STREAM)
    inputs = random.permutation(boolean.cube(widths[0]))[:POINTS].astype(np.float32)
    labels = random.integers(2, size=len(inputs))

    def ours(networks: int) -> train.Trained:
        return train.ensemble(
            nets.dense(widths, sigma_b=1.0),
            inputs,
            labels,
            networks,
            loss=train.CROSS_ENTROPY,
            optimiser=partial(ADAM, fused=True),
            steps=STEPS,
            until=-1.0,
            stream=STREAM,
        )

    def plain(networks: int) -> list[nn.Sequential]:
        x, y, trained = torch.as_tensor(inputs), torch.as_tensor(labels).float(), []
        for _ in range(networks):
            net = module(widths)
            optimiser = ADAM(net.parameters())
            for _ in range(STEPS):
                optimiser.zero_grad()
                nn.functional.binary_cross_entropy_with_logits(net(x)[:, 0], y).backward()
                optimiser.step()
            trained.append(net)
        return trained

    forward, first = multiplications(widths), widths[0] * widths[1]
    return Work(
        "steps of one network",
        ours,
        1000,
        Cost(flops=2 * len(inputs) * (3 * forward - first), traffic=7 * 4 * parameters(widths)),
        plain,
        20,
        STEPS,
    )


def module(widths: tuple[int, ...]) -> nn.Sequential:
    """A fresh random ReLU network: weights of variance 1 / fan-in, biases of variance 1."""
    layers = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        nn.init.normal_(layers[-2].weight, std=fan_in**-0.5)
        nn.init.normal_(layers[-2].bias)
    return nn.Sequential(*layers[:-1])


def multiplications(widths: tuple[int, ...]) -> int:
    """Of one forward pass on one point."""
    return sum(fan_in * fan_out for fan_in, fan_out in pairwise(widths))


def parameters(widths: tuple[int, ...]) -> int:
    """Weights and biases."""
    return multiplications(widths) + sum(widths[1:])


WORKS = {
    "perceptron counts": perceptron_counts(7),
    "perceptron functions": perceptron_functions(7),
    "network functions": network_functions(WIDTHS),
    "training": training(WIDTHS),
}
