"""Ensembles of networks against a plain loop, closed forms and exact symmetries."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from occamnets import boolean, chunks, nets, stats

CUBE = torch.as_tensor(boolean.cube(3), dtype=torch.float64)


def fresh(label=0):
    return chunks.generator(np.random.SeedSequence([3, label]))


def identity(signal):
    return signal


def plain_output(x, parameters):
    """One tanh network on one input: sums of products, one layer after another."""
    for depth, (weights, biases) in enumerate(parameters):
        x = np.tanh(x) if depth else x
        x = [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weights, biases, strict=True)]
    return x


@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.sampled_from([0.0, 0.7]), st.integers(1, 3))
def test_outputs_are_those_of_a_plain_loop_over_the_same_weights(widths, sigma_b, count):
    drawn = []

    def recorded(shape, gen):
        drawn.append(nets.gaussian(shape, gen).double())
        return drawn[-1]

    net = nets.dense(tuple(widths), sigma_w=1.3, sigma_b=sigma_b, activation=torch.tanh, law=recorded)
    inputs = torch.randn((5, widths[0]), generator=fresh(1), dtype=torch.float64)
    seen = nets.outputs(net, inputs, count, gen=fresh())
    weights, biases = (drawn[::2], drawn[1::2]) if sigma_b else (drawn, [torch.zeros(count, w, 1) for w in widths[1:]])
    for k in range(count):
        parameters = [
            (w[k].numpy() * 1.3 / layer.fan_in**0.5, b[k, :, 0].numpy() * sigma_b)
            for layer, w, b in zip(net.layers, weights, biases, strict=True)
        ]
        plain = np.array([plain_output(x, parameters) for x in inputs.numpy()]).T
        np.testing.assert_allclose(seen[k], plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sigma_b", [0.0, 0.7])
def test_a_draw_is_the_law_for_weights_then_biases_layer_by_layer(sigma_b):
    net = nets.dense((3, 4, 2), sigma_w=1.3, sigma_b=sigma_b, law=nets.uniform)
    gen, seen = fresh(), nets.draw(net, 5, gen=fresh())
    for layer, (weights, biases) in zip(net.layers, seen, strict=True):
        assert (weights == nets.uniform((5, layer.fan_out, layer.fan_in), gen) * layer.weight_sd).all()
        expected = nets.uniform((5, layer.fan_out, 1), gen) * sigma_b if sigma_b else torch.zeros(1, 1, 1)
        assert biases.shape == expected.shape
        assert (biases == expected).all()


@pytest.mark.parametrize("sigma_b", [0.0, 0.7])
def test_outputs_are_a_draw_and_a_forward_pass(sigma_b):
    net = nets.dense((3, 4, 2), sigma_b=sigma_b)
    assert (nets.outputs(net, CUBE, 5, gen=fresh()) == nets.forward(net, nets.draw(net, 5, gen=fresh()), CUBE)).all()


@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.sampled_from([0.0, 0.7]), st.integers(1, 3))
def test_each_network_answers_inputs_of_its_own_as_if_it_were_alone(widths, sigma_b, count):
    net = nets.dense(tuple(widths), sigma_w=1.3, sigma_b=sigma_b, activation=torch.tanh)
    drawn = nets.draw(net, count, gen=fresh())
    inputs = torch.randn((count, 5, widths[0]), generator=fresh(1), dtype=torch.float64)
    seen = nets.forward(net, drawn, inputs)
    assert seen.shape == (count, widths[-1], 5)
    for k in range(count):
        mine = [(w[k].double().numpy(), b.expand(count, len(w[k]), 1)[k, :, 0].double().numpy()) for w, b in drawn]
        plain = np.array([plain_output(x, mine) for x in inputs[k].numpy()]).T
        np.testing.assert_allclose(seen[k], plain, rtol=1e-9, atol=1e-12)


def test_the_same_inputs_for_all_are_a_set_for_each():
    net = nets.dense((3, 4, 2), sigma_b=0.5)
    drawn = nets.draw(net, 5, gen=fresh())
    assert torch.allclose(nets.forward(net, drawn, CUBE), nets.forward(net, drawn, CUBE.expand(5, -1, -1)), rtol=1e-12)


@pytest.mark.parametrize("law", [nets.gaussian, nets.uniform])
def test_a_law_has_mean_0_and_variance_1(law):
    draws = law((200_000,), fresh()).double().numpy()
    for power, expected in ((1, 0), (2, 1)):
        seen = stats.mean(draws**power)
        assert abs(seen.value - expected) < 5 * seen.error


def test_uniform_weights_fill_their_interval_and_no_more():
    draws = nets.uniform((200_000,), fresh()).abs()
    assert 1.73 < draws.max() <= 3**0.5


@pytest.mark.parametrize("law", [nets.gaussian, nets.uniform])
@pytest.mark.parametrize(("activation", "kept"), [(identity, 1.0), (torch.relu, 0.5)])
@pytest.mark.parametrize("sigma_b", [0.0, 0.5])
def test_output_variance_follows_its_recursion_at_any_width(law, activation, kept, sigma_b):
    net = nets.dense((3, 4, 5, 1), sigma_w=1.5, sigma_b=sigma_b, activation=activation, law=law)
    x = torch.tensor([[1.0, -2.0, 0.5]])
    squares = nets.outputs(net, x, 100_000, gen=fresh())[:, 0, 0].double().numpy() ** 2
    variance = 1.5**2 * float((x**2).mean()) + sigma_b**2
    for _ in range(2):  # a symmetric input to ReLU keeps half of its mean square
        variance = 1.5**2 * kept * variance + sigma_b**2
    seen = stats.mean(squares)
    assert abs(seen.value - variance) < 5 * seen.error


def test_covariance_of_one_hidden_relu_layer_is_the_arc_cosine_kernel():
    net = nets.dense((2, 8, 1))
    seen = nets.outputs(net, torch.tensor([[1.0, 0.0], [1.0, 1.0]]), 200_000, gen=fresh())[:, 0].double().numpy()
    angle = np.pi / 4
    kernel = 2**0.5 / 2 * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    product = stats.mean(seen[:, 0] * seen[:, 1])
    assert abs(product.value - kernel) < 5 * product.error


def test_without_biases_the_scale_of_the_weights_changes_no_sign():
    small, large = (nets.outputs(nets.perceptron(3, weight_sd=sd), CUBE, 50, gen=fresh()) for sd in (1.0, 8.0))
    assert (large == 8 * small).all()
    deep = [nets.outputs(nets.dense((3, 4, 1), sigma_w=s), CUBE, 50, gen=fresh()) for s in (1.0, 8.0)]
    assert (deep[1] == 64 * deep[0]).all()


def test_a_bias_is_one_number_for_all_inputs_and_another_for_every_unit_and_network():
    layer = nets.Layer(3, 2, weight_sd=0.0, bias_sd=2.0)
    seen = nets.outputs(nets.Network((layer,)), CUBE, 20_000, gen=fresh())
    assert (seen == seen[:, :, :1]).all()
    assert len(seen[:, :, 0].unique()) > 39_900
    squares = stats.mean(seen[:, :, 0].flatten().numpy() ** 2)
    assert abs(squares.value - 4) < 5 * squares.error


def test_a_perceptron_has_weights_at_unit_scale_and_a_dense_layer_by_fan_in():
    assert nets.perceptron(7, bias_sd=0.5).layers == ((7, 1, 1.0, 0.5),)
    assert nets.dense((4, 16, 1), sigma_w=2.0, sigma_b=0.5).layers == ((4, 16, 1.0, 0.5), (16, 1, 0.5, 0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_follows_the_inputs(dtype):
    net = nets.dense((3, 2, 1), sigma_b=1.0)
    for inputs in (CUBE.to(dtype), CUBE.to(dtype).expand(2, -1, -1)):
        assert nets.forward(net, nets.draw(net, 2, gen=fresh()), inputs).dtype == dtype
    assert nets.outputs(net, CUBE.to(dtype), 2, gen=fresh()).dtype == dtype


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: nets.perceptron(0), "from 0 to 1 units"),
        (lambda: nets.perceptron(3, weight_sd=-0.5), r"weight_sd=-0\.5"),
        (lambda: nets.perceptron(3, bias_sd=-0.5), r"bias_sd=-0\.5"),
        (lambda: nets.dense((3, 0, 1)), "from 3 to 0 units"),
        (lambda: nets.dense((3,)), r"widths = \(3,\)"),
        (lambda: nets.dense((3, 1), sigma_w=-2.0), r"sigma_w = -2\.0"),
        (lambda: nets.dense((3, 1), sigma_b=-2.0), r"sigma_b = -2\.0"),
        (lambda: nets.dense((3, 1), sigma_b=float("nan")), "sigma_b = nan"),
        (lambda: nets.outputs(nets.perceptron(4), CUBE, 1, gen=fresh()), "dimension 3 into .* of 4 inputs"),
    ],
)
def test_what_is_impossible_is_named(build, named):
    with pytest.raises(ValueError, match=named):
        build()
