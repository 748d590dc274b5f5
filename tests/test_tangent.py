"""Tangent kernels against Jacobians, infinite width and exact moments; gradient descent against its closed form."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy import linalg

from occamnets import chunks, kernels, nets, stats, tangent, train

STREAM = np.random.SeedSequence([29, 31])
GEN = np.random.default_rng(STREAM)
X1, X2 = GEN.standard_normal((5, 3)), GEN.standard_normal((4, 3))
BOTH = np.vstack([X1, X2])
TARGETS = {outs: GEN.standard_normal((5, outs)) for outs in (1, 2, 3)}  # on X1
ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "erf": torch.erf, "linear": lambda signal: signal}
both = pytest.mark.parametrize("parameterisation", ["ntk", "standard"])


def uneven(widths, activation=torch.tanh, biases=(0.3, 0.0, 0.6, 0.8)):
    """A network no two layers of which have the same standard deviations; some have no biases."""
    pairs = zip(widths[:-1], widths[1:], (0.7, 0.9, 0.5, 1.2), biases, strict=False)
    return nets.Network(tuple(nets.Layer(*pair) for pair in pairs), activation)


def fresh(net, count, label=0):
    gen = chunks.generator(np.random.SeedSequence(STREAM.entropy, spawn_key=(label,)))
    return [nets.Parameters(w.double(), b.double()) for w, b in nets.draw(net, count, gen=gen)]


def at_unit_scale(net, parameters, k, parameterisation):
    """The numbers of network ``k`` that move, and the network as a function of them and of one input."""
    numbers, scales = [], []
    for layer, (weights, biases) in zip(net.layers, parameters, strict=True):
        for sd, tensor in ((layer.weight_sd, weights), (layer.bias_sd, biases)):
            if sd:
                scales.append(sd if parameterisation == "ntk" else 1.0)
                numbers.append(tensor[k] / scales[-1])

    def answer(numbers, x):
        scaled = iter([scale * tensor for scale, tensor in zip(scales, numbers, strict=True)])
        for depth, layer in enumerate(net.layers):
            x = next(scaled) @ (net.activation(x) if depth else x)
            x = x + next(scaled)[:, 0] if layer.bias_sd else x
        return x

    return tuple(numbers), answer


def jacobian(net, parameters, k, x, parameterisation):
    """Of the outputs of network ``k`` by its numbers: (points, outs, numbers)."""
    numbers, answer = at_unit_scale(net, parameters, k, parameterisation)
    each = torch.vmap(torch.func.jacrev(answer), (None, 0))(numbers, torch.tensor(x))
    return np.concatenate([tensor.flatten(2).numpy() for tensor in each], axis=2)


def by_definition(net, parameters, x1, x2, parameterisation):
    one, other = (
        np.stack([jacobian(net, parameters, k, x, parameterisation) for k in range(len(parameters[0].weights))])
        for x in (x1, x2)
    )
    return np.einsum("kiap,kjbp->kijab", one, other)


def check(net, parameters, x1, x2=None, *, full, parameterisation="ntk", **options):
    seen = tangent.kernel(net, parameters, x1, x2, full=full, parameterisation=parameterisation, **options)
    expected = by_definition(net, parameters, x1, x1 if x2 is None else x2, parameterisation)
    if not full:
        expected = np.trace(expected, axis1=3, axis2=4) / net.layers[-1].fan_out
    assert seen.shape == expected.shape
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max()))


# The kernel is that of the Jacobians


@given(
    st.lists(st.integers(1, 5), max_size=3),
    st.integers(1, 4),
    st.sampled_from(sorted(ACTIVATIONS)),
    st.sampled_from(["ntk", "standard"]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 3),
    st.integers(1, 60),
)
def test_layer_by_layer_is_the_product_of_jacobians(hidden, outs, name, parameterisation, full, square, count, rows):
    """For any depth, number of outputs and networks, and in blocks of any size."""
    net = uneven((3, *hidden, outs), ACTIVATIONS[name])
    options = {"full": full, "parameterisation": parameterisation, "rows": rows}
    check(net, fresh(net, count), X1, None if square else X2, **options)


@both
@pytest.mark.parametrize("biases", [(0.0,) * 4, (0.4,) * 4])
@pytest.mark.parametrize("full", [True, False])
def test_with_and_without_biases(parameterisation, biases, full):
    net = uneven((3, 6, 5, 2), biases=biases)
    check(net, fresh(net, 2), X1, X2, full=full, parameterisation=parameterisation)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("rows", [2048, 300, 150])
def test_a_block_with_itself_is_made_of_halves(full, rows):
    net = uneven((2, 4, 2))
    inputs = np.random.default_rng(STREAM).standard_normal((2 * tangent.HALVED + 7, 2))
    check(net, fresh(net, 2), inputs, full=full, rows=rows)


def test_a_layer_that_cannot_move_adds_nothing():
    net = nets.Network((nets.Layer(3, 4, 0.5), nets.Layer(4, 2, 0.0, 0.7)))
    assert (tangent.kernel(net, fresh(net, 2), X1) == 0.7**2).all()


def test_no_block_is_larger_than_asked_for(monkeypatch):
    net, sizes = uneven((3, 4, 2)), []

    def spied(net, parameters, points):
        sizes.append(len(parameters[0].weights) * len(points) * 2)
        return signals(net, parameters, points)

    signals = tangent._signals
    monkeypatch.setattr(tangent, "_signals", spied)
    for rows in (2, 7, 16, 40):
        sizes.clear()
        tangent.kernel(net, fresh(net, 7), X1, X2, rows=rows)
        assert max(sizes) <= rows < max(sizes) * 2


# Infinite width


def every_mean(seen, expected):
    """All means over networks lie within five standard errors."""
    for index in np.ndindex(expected.shape):
        mean = stats.mean(seen[(slice(None), *index)])
        assert abs(mean.value - expected[index]) < 5 * mean.error + 1e-12, index


@pytest.mark.parametrize(("activation", "expectation"), [(torch.relu, kernels.arc_cosine_1), (torch.erf, kernels.erf)])
@pytest.mark.parametrize("sigma_b", [0.0, 0.6])
def test_one_hidden_layer_has_the_mean_of_infinite_width_at_any_width(activation, expectation, sigma_b):
    """And the kernel between two outputs has mean zero."""
    net = nets.dense((3, 4, 2), sigma_w=1.4, sigma_b=sigma_b, activation=activation)
    seen = tangent.kernel(net, fresh(net, 20_000), X1[:3], full=True)
    theta = kernels.ntk(X1[:3], 1, sigma_w=1.4, sigma_b=sigma_b, expectation=expectation)[-1]
    every_mean(seen, theta[:, :, None, None] * np.eye(2))


def test_deep_relu_networks_have_it_for_one_point_with_itself():
    net = nets.dense((3, 5, 4, 6, 2), sigma_w=1.3)
    seen = tangent.kernel(net, fresh(net, 40_000), X1[:1])
    every_mean(seen, kernels.ntk(X1[:1], 3, sigma_w=1.3)[-1])


@pytest.mark.parametrize("width", [2, 16])
def test_its_variance_is_three_squares_over_width_for_one_hidden_relu_layer(width):
    """A unit adds ``relu(u)**2 + a**2 q 1(u > 0)``, ``u ~ N(0, q)``, ``a ~ N(0, 1)``: mean q, mean square 4 q**2."""
    net = nets.dense((3, width, 1), sigma_w=1.3)
    seen = tangent.kernel(net, fresh(net, 40_000), X1[:1])[:, 0, 0]
    theta = 1.3**4 * (X1[0] ** 2).mean()
    every_mean(width * (seen / theta - 1)[:, None] ** 2, np.array([3.0]))


def test_wide_networks_approach_it_as_one_over_the_root_of_width():
    theta = kernels.ntk(X1, 2, sigma_w=1.4, sigma_b=0.3)[-1]
    widths, errors = (16, 64, 256), []
    for width in widths:
        net = nets.dense((3, width, width, 1), sigma_w=1.4, sigma_b=0.3)
        errors.append(np.mean((tangent.kernel(net, fresh(net, 300), X1) - theta) ** 2) ** 0.5)
    assert np.polyfit(np.log(widths), np.log(errors), 1)[0] == pytest.approx(-1 / 2, abs=0.06)


# Linearised networks


@both
@pytest.mark.parametrize("biases", [(0.0,) * 4, (0.4,) * 4])
def test_a_linearised_network_answers_by_its_jacobian(parameterisation, biases):
    net = uneven((3, 6, 5, 2), biases=biases)
    start, end = fresh(net, 3), fresh(net, 3, label=1)
    seen = tangent.linearised(net, start, end, X1)
    for k in range(3):
        numbers = [at_unit_scale(net, parameters, k, parameterisation)[0] for parameters in (start, end)]
        step = np.concatenate([(b - a).flatten().numpy() for a, b in zip(*numbers, strict=True)])
        change = jacobian(net, start, k, X1, parameterisation) @ step
        expected = nets.forward(net, start, torch.tensor(X1))[k].numpy() + change.T
        np.testing.assert_allclose(seen[k], expected, rtol=0, atol=1e-12)


def test_it_departs_from_the_network_by_the_square_of_the_step():
    net = uneven((3, 6, 5, 2))
    start, there = fresh(net, 3), fresh(net, 3, label=1)
    gaps = []
    for size in (1e-3, 5e-4):
        end = [
            nets.Parameters(*map(partial(torch.lerp, weight=size), *pair)) for pair in zip(start, there, strict=True)
        ]
        exact = nets.forward(net, end, torch.tensor(X1)).numpy()
        gaps.append(np.linalg.norm(exact - tangent.linearised(net, start, end, X1)))
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.01)


# Gradient descent


def descended(net, parameters, k, targets, lr, steps, parameterisation):
    """Outputs on ``X1`` and ``X2`` of network ``k``, linearised, after explicit gradient descent on ``X1``."""
    slopes = jacobian(net, parameters, k, BOTH, parameterisation)
    start = nets.forward(net, parameters, torch.tensor(BOTH))[k].numpy().T
    moved = np.zeros(slopes.shape[2])
    for _ in range(steps):
        residuals = (start + slopes @ moved)[: len(X1)] - targets
        moved -= lr * 2 / targets.size * np.einsum("ia,iap->p", residuals, slopes[: len(X1)])
    return (start + slopes @ moved).T


@both
@pytest.mark.parametrize("outs", [1, 3])
@pytest.mark.parametrize("lr", [0.2, 3.0])
def test_descent_is_gradient_descent_on_linearised_networks(parameterisation, outs, lr):
    """Stable or not."""
    net, targets = uneven((3, 6, 5, outs)), TARGETS[outs]
    parameters = fresh(net, 3)
    theta = tangent.kernel(net, parameters, BOTH, X1, full=True, parameterisation=parameterisation)
    start = nets.forward(net, parameters, torch.tensor(BOTH)).numpy()
    steps = np.array([0, 1, 7, 40])
    seen = tangent.descent(theta, start, targets, steps, lr=lr)
    for t, count in enumerate(steps):
        for k in range(3):
            expected = descended(net, parameters, k, targets, lr, count, parameterisation)
            np.testing.assert_allclose(seen[t, k], expected, rtol=0, atol=1e-10 * max(1, np.abs(expected).max()))


def positive(size, train):
    """A kernel of ``size`` points with the first ``train``."""
    root = np.random.default_rng(STREAM).standard_normal((size, size))
    return (root @ root.T / size)[None, :, :train]


def test_one_kernel_serves_each_output_and_many_networks():
    theta, targets, steps = positive(9, 5), TARGETS[2], np.array([1, 30])
    start = np.random.default_rng(STREAM).standard_normal((4, 2, 9))
    whole = tangent.descent(theta, start, targets, steps, lr=0.5)
    pairs = tangent.descent(theta[..., None, None] * np.eye(2), start, targets, steps, lr=0.5)
    np.testing.assert_allclose(whole, pairs, rtol=0, atol=1e-12)
    for k in range(4):
        for out in range(2):  # the mean over two outputs halves the gradient
            alone = tangent.descent(theta, start[k, out][None, None], targets[:, [out]], steps, lr=0.25)
            np.testing.assert_allclose(whole[:, k, out], alone[:, 0, 0], rtol=0, atol=1e-12)
    repeated = tangent.descent(np.repeat(theta, 4, axis=0), start[:1], targets, steps, lr=0.5)
    np.testing.assert_allclose(repeated, np.repeat(whole[:, :1], 4, axis=1), rtol=0, atol=1e-12)


def test_many_small_steps_are_gradient_flow():
    theta, targets, time = positive(9, 5), TARGETS[1], 3.0
    decay = linalg.expm(-2 * time / 5 * theta[0, :5])
    flow = theta[0] @ np.linalg.solve(theta[0, :5], (np.eye(5) - decay) @ targets)

    def gap(steps):
        seen = tangent.descent(theta, np.zeros((1, 1, 9)), targets, np.array([steps]), lr=time / steps)
        return seen[0, 0, 0] - flow[:, 0]

    assert np.linalg.norm(gap(1000)) / np.linalg.norm(gap(2000)) == pytest.approx(2, rel=0.01)
    assert np.abs(gap(2**45)).max() < 1e-12


def test_what_the_kernel_does_not_see_stays():
    theta = np.array([[[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]])  # the sum of two points moves, their difference does not
    seen = tangent.descent(theta, np.zeros((1, 1, 3)), np.array([[3.0], [1.0]]), np.array([10**6]), lr=0.1)
    np.testing.assert_allclose(seen[0, 0, 0], [2, 2, 0], rtol=0, atol=1e-9)


def test_what_does_not_move_pulls_for_ever():
    seen = tangent.descent(np.array([[[0.0], [1.0]]]), np.zeros((1, 1, 2)), np.array([[3.0]]), np.array([10]), lr=0.1)
    np.testing.assert_allclose(seen[0, 0, 0], [0, 10 * 0.1 * 2 * 3], rtol=1e-12)


def in_groups(tensors, *, lr, scales):
    return torch.optim.SGD([{"params": [t], "lr": lr * s} for t, s in zip(tensors, scales, strict=True)])


def trained(net, count, targets, steps, lr, parameterisation):
    """Trained networks; numbers at unit scale move as do weights with their own learning rates."""
    scales = [sd**2 for layer in net.layers for sd in (layer.weight_sd, layer.bias_sd) if sd]
    return train.ensemble(
        net,
        X1,
        targets,
        count,
        loss=train.MSE,
        optimiser=partial(in_groups, lr=lr, scales=scales if parameterisation == "ntk" else [1.0] * len(scales)),
        steps=steps,
        until=-1.0,
        stream=STREAM,
    )


def parameters_of(seen):
    pairs = zip(seen.weights, seen.biases, strict=True)
    return [nets.Parameters(torch.tensor(w), torch.tensor(b)) for w, b in pairs]


def predicted(net, count, targets, steps, lr, parameterisation):
    """What the kernel at the start says of training."""
    start = trained(net, count, targets, 0, lr, parameterisation)
    theta = tangent.kernel(net, parameters_of(start), BOTH, X1, full=True, parameterisation=parameterisation)
    return tangent.descent(theta, start.outputs(BOTH), targets, np.array([steps]), lr=lr)[0]


@both
@pytest.mark.parametrize("bias_sd", [0.0, 0.4])
def test_a_network_without_hidden_layers_trains_as_its_kernel_says(parameterisation, bias_sd):
    """Then the kernel does not move: training, linearised training and the closed form are one."""
    net, targets = nets.Network((nets.Layer(3, 2, 0.7, bias_sd),)), TARGETS[2]
    start = parameters_of(trained(net, 3, targets, 0, 0.3, parameterisation))
    for steps in (1, 7, 100):
        end = trained(net, 3, targets, steps, 0.3, parameterisation)
        expected = end.outputs(BOTH)
        seen = predicted(net, 3, targets, steps, 0.3, parameterisation)
        np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-10)
        linear = tangent.linearised(net, start, parameters_of(end), BOTH)
        np.testing.assert_allclose(linear, expected, rtol=0, atol=1e-10)


@both
def test_a_first_step_goes_where_the_kernel_says_up_to_its_square(parameterisation):
    net, targets, gaps = uneven((3, 6, 5, 2)), TARGETS[2], []
    for lr in (1e-3, 5e-4):
        end = trained(net, 3, targets, 1, lr, parameterisation).outputs(BOTH)
        gaps.append(np.linalg.norm(end - predicted(net, 3, targets, 1, lr, parameterisation)))
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.01)


def test_wide_networks_train_as_their_first_kernel_says_up_to_one_over_width():
    """For a smooth activation (Dyer & Gur-Ari 2020); the bound of Lee et al. 2019, its root, is not tight."""
    widths, gaps = (512, 2048, 8192), []
    for width in widths:
        net = nets.dense((3, width, 1), sigma_w=1.5, sigma_b=0.3, activation=torch.tanh)
        end = trained(net, 40, TARGETS[1], 30, 0.3, "ntk").outputs(BOTH)
        gaps.append(np.mean((end - predicted(net, 40, TARGETS[1], 30, 0.3, "ntk")) ** 2) ** 0.5)
    assert np.polyfit(np.log(widths), np.log(gaps), 1)[0] == pytest.approx(-1, abs=0.15)


# What goes in and comes out


def test_precision_follows_the_inputs():
    net, single = uneven((3, 8, 2)), X1.astype(np.float32)
    parameters = fresh(net, 2)
    for full in (False, True):
        few, many = (tangent.kernel(net, parameters, x, full=full) for x in (single, X1))
        assert (few.dtype, many.dtype) == (np.float32, np.float64)
        np.testing.assert_allclose(few, many, rtol=1e-4, atol=1e-5)
    assert tangent.kernel(net, parameters, single, X2).dtype == np.float32
    assert tangent.linearised(net, parameters, parameters, single).dtype == np.float32


def test_parameters_in_training_and_read_only_inputs_will_do():
    net, frozen = uneven((3, 8, 2)), X1.copy()
    frozen.setflags(write=False)
    parameters = fresh(net, 2)
    learning = [nets.Parameters(*(t.clone().requires_grad_() for t in layer)) for layer in parameters]
    with torch.no_grad():
        assert (tangent.kernel(net, learning, frozen) == tangent.kernel(net, parameters, X1)).all()
    assert (
        tangent.linearised(net, learning, learning, frozen) == tangent.linearised(net, parameters, learning, X1)
    ).all()


NET, KERNEL = uneven((3, 4, 2)), positive(4, 3)


def kernel(x1=X1, x2=None, **options):
    return tangent.kernel(NET, fresh(NET, 1), x1, x2, **options)


def descent(theta=KERNEL, start=(1, 2, 4), targets=(3, 2), steps=(0, 1), lr=0.1):
    return tangent.descent(theta, np.zeros(start), np.zeros(targets), np.array(steps), lr=lr)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: kernel(X1[:, :2]), "dimension 2 into .* of 3 inputs"),
        (lambda: kernel(parameterisation="mup"), "'mup': it is one of ntk, standard"),
        (lambda: kernel(rows=0), "rows = 0"),
        (lambda: descent(KERNEL[:, ::-1]), "first of all points, is not symmetric"),
        (lambda: descent(steps=(-1, 0)), r"steps = \[-1"),
        (lambda: descent(lr=-0.1), r"lr = -0\.1"),
        (lambda: descent(lr=float("nan")), "lr = nan"),
    ],
)
def test_what_is_impossible_is_named(build, named):
    with pytest.raises(ValueError, match=named):
        build()


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: kernel(x2=X2[:, :2]), "dimension 2 into .* of 3 inputs|points2 n"),
        (lambda: descent(positive(5, 3)), r"kernel \(1, 5, 3\)|points=5"),
        (lambda: descent(positive(4, 2)), r"kernel \(1, 4, 2\)|train=2"),
        (lambda: descent(KERNEL[..., None]), r"kernel \(1, 4, 3, 1\)"),
        (lambda: descent(targets=(3, 1)), r"targets \(3, 1\)|outs=2"),
    ],
)
def test_shapes_that_do_not_fit_are_named(build, named):
    with pytest.raises((ValueError, TypeCheckError), match=named):
        build()
