"""Ensembles of random networks as batched tensors. A perceptron is the network with one layer.

A weight law draws a whole ensemble's weights at unit scale, a layer multiplies them by its standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float

Law = Callable[[tuple[int, ...], torch.Generator], torch.Tensor]
"""``law(shape, gen)``: unit-scale weights of that shape on the generator's device; the last axis is the fan-in."""


def gaussian(shape: tuple[int, ...], gen: torch.Generator) -> torch.Tensor:
    """Independent standard normal weights."""
    return torch.randn(shape, generator=gen, device=gen.device)


def uniform(shape: tuple[int, ...], gen: torch.Generator) -> torch.Tensor:
    """Independent weights, uniform on ``[-sqrt(3), sqrt(3)]``: mean 0, variance 1."""
    return (2 * torch.rand(shape, generator=gen, device=gen.device) - 1) * 3**0.5


class Layer(NamedTuple):
    """One dense layer of every network of an ensemble."""

    fan_in: int
    """inputs of the layer"""
    fan_out: int
    """outputs of the layer"""
    weight_sd: float
    """standard deviation of each weight"""
    bias_sd: float = 0.0
    """standard deviation of each bias; 0 for a layer without biases"""


class Network(NamedTuple):
    """A random dense network: layers, what lies between them, and the unit-scale law of its weights and biases."""

    layers: tuple[Layer, ...]
    """first to last"""
    activation: Callable[[torch.Tensor], torch.Tensor] = torch.relu
    """applied between layers, not after the last"""
    law: Law = gaussian
    """of all weights and biases, before scaling"""


def perceptron(n: int, *, law: Law = gaussian, weight_sd: float = 1.0, bias_sd: float = 0.0) -> Network:
    """``f(x) = 1(w.x + b > 0)`` on ``n`` inputs. ``ValueError`` for ``n < 1`` or a negative standard deviation."""
    return _checked(Network((Layer(n, 1, weight_sd, bias_sd),), law=law))


def dense(
    widths: tuple[int, ...],
    *,
    sigma_w: float = 1.0,
    sigma_b: float = 0.0,
    activation: Callable[[torch.Tensor], torch.Tensor] = torch.relu,
    law: Law = gaussian,
) -> Network:
    """A network of the given widths, inputs first.

    Weight variance ``sigma_w**2 / fan_in``, bias variance ``sigma_b**2``.
    ``ValueError`` for fewer than two widths, a width below 1 or a negative sigma.
    """
    if len(widths) < 2:
        raise ValueError(f"widths = {widths}: a network needs the number of inputs and at least one layer")
    if not (sigma_w >= 0 and sigma_b >= 0):
        raise ValueError(f"sigma_w = {sigma_w}, sigma_b = {sigma_b}: a standard deviation cannot be negative")
    pairs = pairwise(widths)
    return _checked(Network(tuple(Layer(i, o, sigma_w / max(i, 1) ** 0.5, sigma_b) for i, o in pairs), activation, law))


def _checked(net: Network) -> Network:
    for layer in net.layers:
        if layer.fan_in < 1 or layer.fan_out < 1:
            raise ValueError(f"a layer from {layer.fan_in} to {layer.fan_out} units: both numbers must be 1 or more")
        if not (layer.weight_sd >= 0 and layer.bias_sd >= 0):
            raise ValueError(f"{layer}: a standard deviation cannot be negative")
    return net


class Parameters(NamedTuple):
    """The weights and biases of one layer of every network of an ensemble."""

    weights: Float[torch.Tensor, "networks fan_out fan_in"]
    """one matrix a network"""
    biases: Float[torch.Tensor, "networks fan_out 1"]
    """one column a network; without biases, zeros of shape (1, 1, 1)"""


def draw(net: Network, count: int, *, gen: torch.Generator) -> list[Parameters]:
    """Fresh weights and biases of ``count`` networks, on the generator's device, layer by layer.

    For each layer the law is drawn for the weights, then for the biases where the layer has them.
    """
    return [
        Parameters(
            net.law((count, layer.fan_out, layer.fan_in), gen) * layer.weight_sd,
            net.law((count, layer.fan_out, 1), gen) * layer.bias_sd
            if layer.bias_sd
            else torch.zeros((1, 1, 1), device=gen.device),
        )
        for layer in net.layers
    ]


def forward(
    net: Network, parameters: list[Parameters], inputs: Float[torch.Tensor, "*networks points n"]
) -> Float[torch.Tensor, "networks outs points"]:
    """The outputs of the networks on the inputs: the same for all, or a set for each network.

    The parameters take the inputs' precision.
    """
    signal = inputs.mT.expand(len(parameters[0].weights), -1, -1)
    for depth, (weights, biases) in enumerate(parameters):
        signal = net.activation(signal) if depth else signal
        signal = torch.baddbmm(biases.to(signal.dtype), weights.to(signal.dtype), signal)
    return signal


def outputs(
    net: Network, inputs: Float[torch.Tensor, "points n"], count: int, *, gen: torch.Generator
) -> Float[torch.Tensor, "count outs points"]:
    """The outputs of ``count`` freshly drawn networks on all inputs, on the generator's device."""
    if inputs.shape[1] != net.layers[0].fan_in:
        raise ValueError(f"inputs of dimension {inputs.shape[1]} into a network of {net.layers[0].fan_in} inputs")
    return forward(net, draw(net, count, gen=gen), inputs)
