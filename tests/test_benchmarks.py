"""The benchmarks measure the same work on both sides, and their file has its fields."""

import json
from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import measure, report, tangents, works
from occamnets import boolean

FIELDS = {"name", "unit", "ours", "baseline", "ratio", "limit", "share_of_limit", "peak_mb", "note"}


@pytest.fixture(autouse=True)
def seeded():
    """The plain ways draw from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(works.STREAM.generate_state(1)[0].item())
        yield


def agree(ours, plain, draws):
    """Two rows of counts of as many draws, category by category, to five standard errors of their difference."""
    share = (ours + plain) / (2 * draws)
    assert ours.sum() == plain.sum() == draws
    assert (np.abs(ours - plain) <= 5 * np.sqrt(2 * draws * share * (1 - share))).all()


def numbered(tables):
    """Truth tables of three inputs as one number each."""
    return boolean.pack(np.asarray(tables, dtype=bool))[:, 0]


def counted(functions):
    """Counts of all 256 functions of three inputs, from what the library gives back."""
    return np.bincount(functions.tables[:, 0], weights=functions.counts, minlength=256)


def test_counts_of_t_agree():
    work = works.perceptron_counts(3)
    agree(work.ours(4000), work.plain(4000).numpy(), 4000)


def test_functions_of_a_perceptron_agree():
    work = works.perceptron_functions(3)
    tables, counts = work.plain(4000)
    plain = np.bincount(numbered(tables), weights=counts, minlength=256)
    agree(counted(work.ours(4000)), plain, 4000)


def test_functions_of_a_network_agree():
    work = works.network_functions((3, 4, 4, 1))
    seen = work.plain(2000)
    tables = [np.frombuffer(table, dtype=bool) for table in seen]
    plain = np.bincount(numbered(tables), weights=list(seen.values()), minlength=256)
    agree(counted(work.ours(2000)), plain, 2000)


def test_both_sides_train_the_same_networks_to_the_same_end(monkeypatch):
    widths = (7, 5, 4, 1)
    work = works.training(widths)
    monkeypatch.setattr(works, "STEPS", 0)
    starts = work.ours(3)
    monkeypatch.undo()
    modules = [works.module(widths) for _ in range(3)]
    with torch.no_grad():
        for depth, (weights, biases) in enumerate(zip(starts.weights, starts.biases, strict=True)):
            for net, weight, bias in zip(modules, weights, biases[..., 0], strict=True):
                net[2 * depth].weight[:], net[2 * depth].bias[:] = torch.as_tensor(weight), torch.as_tensor(bias)
    waiting = iter(modules)
    monkeypatch.setattr(works, "module", lambda _: next(waiting))
    ours, plain = work.ours(3), work.plain(3)
    points = boolean.cube(7).astype(np.float32)
    with torch.no_grad():
        outputs = [net(torch.as_tensor(points))[:, 0].numpy() for net in plain]
    assert (ours.steps == works.STEPS).all()
    assert np.abs(ours.outputs(points) - starts.outputs(points)).max() > 0.01
    assert np.allclose(ours.outputs(points)[:, 0], outputs, atol=1e-4)


def test_fresh_modules_have_the_prior_of_the_library():
    drawn = [works.module((100, 50, 1)) for _ in range(20)]
    for depth, fan_in in ((0, 100), (2, 50)):
        weights = torch.cat([net[depth].weight.flatten() for net in drawn]).detach() * fan_in**0.5
        biases = torch.cat([net[depth].bias for net in drawn]).detach()
        for values in (weights, biases):
            assert abs(values.var().item() - 1) < 5 * (2 / len(values)) ** 0.5
            assert values.abs().max() > 1  # uniform values of torch's own start would not reach that


def test_a_network_costs_what_its_shape_says():
    assert works.parameters(works.WIDTHS) == 7 * 40 + 40 + 40 * 40 + 40 + 40 + 1
    assert works.network_functions((2, 3, 1)).cost == (13, 2 * 4 * 9, 0)
    assert works.perceptron_counts(5).cost == works.perceptron_functions(5).cost == (5, 0, 0)
    with FlopCounterMode(display=False) as count:
        outputs = works.module(works.WIDTHS)(torch.zeros(works.POINTS, 7))
        forward = count.get_total_flops()
        outputs.sum().backward()
    cost, parts = works.training(works.WIDTHS).cost, measure.floors(works.training(works.WIDTHS))
    assert cost == (0, count.get_total_flops(), 7 * 4 * 2001)
    assert parts["forward"] == (0, forward, 0)
    assert tuple(map(sum, zip(*(parts[part] for part in ("forward", "backward", "optimiser")), strict=True))) == cost


def test_the_least_time_adds_up_over_the_rates():
    covered = works.Cost(normals=100, flops=1000, traffic=10)
    assert measure.least(works.Cost(50, 500, 20), covered, [1.0, 2.0, 0.25]) == pytest.approx(0.5 + 1 + 0.5)
    calls, covered = measure.machine()
    assert len(calls) == len(covered) == 3
    assert all(part > 0 for part in covered)


def test_all_times_are_taken_in_turns():
    order = []
    benchmark = SimpleNamespace(stats=SimpleNamespace(stats=SimpleNamespace(min=3.0)))

    def pedantic(target, setup, rounds):
        for _ in range(rounds):
            setup()
            target()

    benchmark.pedantic = pedantic
    others = [partial(order.append, name) for name in "bc"]
    ours, *rest = measure.fastest(benchmark, partial(order.append, "a"), others, rounds=2)
    assert "".join(order) == "bcabca"
    assert ours == 3
    assert len(rest) == 2


def test_a_profile_adds_up_and_leaves_the_library_as_it_was():
    before = measure.train.forward, measure.train.CROSS_ENTROPY, torch.Tensor.backward, torch.optim.Adam.step
    parts = measure.profile(works.training((7, 4, 1)), 3)
    assert set(parts) == {"forward", "loss", "looking for zero error", "backward", "optimiser", "the rest", "all"}
    assert min(parts.values()) > 0
    assert sum(parts.values()) == pytest.approx(2 * parts["all"])
    assert before == (
        measure.train.forward,
        measure.train.CROSS_ENTROPY,
        torch.Tensor.backward,
        torch.optim.Adam.step,
    )


def test_a_process_of_its_own_says_its_peak_of_memory():
    with measure.process("perceptron counts", 1000) as one:
        first, second = measure.together([one]), measure.together([one])
    assert one.returncode == 0
    assert first[0] is None or 50 < first[0] <= second[0] < 1000


def test_a_record_has_its_fields_and_says_how_much_faster():
    rate = report.record("speed/x", "draws/s", "note", ours=200.0, baseline=10.0, limit=400.0, peak_mb=123.456)
    assert set(rate) == FIELDS
    assert (rate["ratio"], rate["share_of_limit"], rate["peak_mb"]) == (20, 0.5, 123.456)
    time = report.record("profile/x", "µs", ours=4.0, baseline=8.0, limit=1.0)
    assert (time["ratio"], time["share_of_limit"], time["peak_mb"]) == (2, 0.25, None)
    assert json.loads(json.dumps(report.record("machine", "", "facts"))) == dict.fromkeys(FIELDS) | {
        "name": "machine",
        "unit": "",
        "note": "facts",
    }


def test_the_table_has_a_line_a_record():
    records = [report.record("a", "draws/s", ours=1234567.0), report.record("longer", "µs", "note", ours=0.01234)]
    head, first, second = report.table(records).splitlines()
    assert head.split() == ["name", "unit", *report.FIELDS, "note"]
    assert first.split() == ["a", "draws/s", "1,230,000"]
    assert second.split() == ["longer", "µs", "0.0123", "note"]


def test_the_figure_shows_times_above_the_least_times():
    rates = {"draws/1e5": 1e6, "draws/1e6": 1e6, "functions/1e5": 1e5, "n/4": 1e6, "n/6": 1e5, "width/10": 1e4}
    records = [report.record(f"growth/{name}", "x/s", ours=rate, limit=2 * rate) for name, rate in rates.items()]
    draws, inputs, width = report.growth(records).axes
    assert [line.get_ydata().tolist() for line in draws.lines] == [[0.1, 1], [0.05, 0.5], [1]]
    assert [line.get_ydata().tolist() for line in inputs.lines] == [[1, 10], [0.5, 5]]
    assert width.lines[0].get_xydata().tolist() == [[10, 100]]
    plt.close("all")


def test_the_figure_of_tangent_kernels_shows_both_ways():
    names = [f"{kind}/{x}" for kind in ("points", "neurons", "outputs") for x in (1, 2)]
    records = [report.record(f"growth/{name}", "s", ours=0.1, baseline=10.0) for name in names]
    for ax in report.tangent_growth(records).axes:
        assert [line.get_xydata().tolist() for line in ax.lines] == [[[1, 0.1], [2, 0.1]], [[1, 10], [2, 10]]]
    plt.close("all")


@pytest.mark.parametrize("size", [tangents.Size(5, 6, 1), tangents.Size(5, 6, 3), tangents.Size(5, 6, 3, pairs=True)])
def test_tangent_kernels_agree(size):
    seen, expected = tangents.ours(size)(), tangents.plain(size)()
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("way", tangents.WAYS)
def test_a_process_of_its_own_tells_time_and_memory(way):
    seconds, extra_mb = tangents.measured(way, tangents.Size(64, 64), 2)
    assert 0 < seconds < 5
    assert extra_mb is None or 0 <= extra_mb < 500


def test_the_recorded_run_has_every_field_and_every_group():
    records = json.loads((measure.ROOT / "results/benchmarks.json").read_text(encoding="utf-8"))
    assert all(set(record) == FIELDS for record in records)
    groups = {record["name"].split("/")[0] for record in records}
    assert groups == {"machine", "speed", "profile", "memory", "two workers", "growth", "tangent", "tangent memory"}
    assert [r["name"] for r in records if r["name"].startswith("speed/")] == [f"speed/{name}" for name in works.WORKS]
