"""What a run found: records, the table of them, and the figures of how time grows."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from occamnets import plots

Record = dict[str, Any]
FIELDS = ("ours", "baseline", "ratio", "limit", "share_of_limit", "peak_mb")
NAME = {"textcoords": "offset points", "annotation_clip": False}
"""A curve's name stands to the right of its last point: ours a little above, the limit's a little below."""

TANGENT_GROWTH = (
    "points (width 512, one output)",
    "width (256 points, one output)",
    "outputs (64 points, width 512, all pairs)",
)
"""What grows, panel by panel."""


def record(
    name: str,
    unit: str,
    note: str = "",
    *,
    ours: float | None = None,
    baseline: float | None = None,
    limit: float | None = None,
    peak_mb: float | None = None,
) -> Record:
    """One entry of the file, to six digits: rates a second, or times where the unit is one."""
    numbers = dict.fromkeys(FIELDS)
    numbers |= {"ours": ours, "baseline": baseline, "limit": limit, "peak_mb": peak_mb}
    faster = 1 if unit.endswith("/s") else -1
    numbers["ratio"] = (ours / baseline) ** faster if ours and baseline else None
    numbers["share_of_limit"] = (ours / limit) ** faster if ours and limit else None
    return {
        "name": name,
        "unit": unit,
        **{field: None if number is None else float(f"{number:.6g}") for field, number in numbers.items()},
        "note": note,
    }


def table(records: list[Record]) -> str:
    """All records, a line each."""
    head = ["name", "unit", *FIELDS, "note"]
    rows = [[each["name"], each["unit"], *(shown(each[field]) for field in FIELDS), each["note"]] for each in records]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    sides = [str.ljust, str.ljust, *(str.rjust for _ in FIELDS), str.ljust]
    lines = ([side(*cell) for side, *cell in zip(sides, row, widths, strict=True)] for row in [head, *rows])
    return "\n".join("  ".join(cells).rstrip() for cells in lines)


def shown(number: float | None) -> str:
    """Three digits, thousands apart."""
    return "" if number is None else f"{float(f'{number:.3g}'):,.10g}"


def growth(records: list[Record]) -> Figure:
    """Time against draws, inputs and width, each with the least time that the machine's rates allow."""
    plots.use_style()
    figure, axes = plt.subplots(3, figsize=(5.6, 7.5))
    draws, inputs, width = axes
    for kind, ax, amount, name, color in (
        ("draws", draws, None, "counts of t", plots.DATA),
        ("functions", draws, None, "functions", plots.OTHER),
        ("n", inputs, 1e6, "counts of t", plots.DATA),
        ("width", width, 1e6, "functions", plots.OTHER),
    ):
        found = [each for each in records if each["name"].startswith(f"growth/{kind}/")]
        x = np.array([float(each["name"].split("/")[-1]) for each in found])
        taken, least = ((amount or x) / np.array([each[rate] for each in found]) for rate in ("ours", "limit"))
        ax.plot(x, taken, "o-", color=color)
        plots.name_curve(ax, x[-1], taken[-1], name, color=color, xytext=(6, 4), **NAME)
        if kind != "functions":
            plots.theory(ax, x, least)
            plots.name_curve(ax, x[-1], least[-1], "limit", color=plots.THEORY, xytext=(6, -4), **NAME)
    draws.set(title="perceptron, n = 7", xlabel="draws", ylabel="time (s)", xscale="log", yscale="log")
    inputs.set(title="perceptron", xlabel="number of inputs n", ylabel="time a draw (µs)", yscale="log")
    width.set(title="(7,w,w,1) network", xlabel="width w", ylabel="time a network (µs)", xscale="log", yscale="log")
    return figure


def tangent_growth(records: list[Record]) -> Figure:
    """Time of the tangent kernel against points, width and outputs, layer by layer and from the Jacobian."""
    plots.use_style()
    figure, axes = plt.subplots(3, figsize=(5.6, 7.5))
    for ax, kind, xlabel in zip(axes, ("points", "neurons", "outputs"), TANGENT_GROWTH, strict=True):
        found = [each for each in records if each["name"].startswith(f"growth/{kind}/")]
        x = np.array([float(each["name"].split("/")[-1]) for each in found])
        for field, name, color in (("ours", "layer by layer", plots.DATA), ("baseline", "Jacobian", plots.CONTROL)):
            taken = np.array([each[field] for each in found])
            ax.plot(x, taken, "o-", color=color)
            plots.name_curve(ax, x[-1], taken[-1], name, color=color, xytext=(6, 0), **NAME)
        ax.set(xlabel=xlabel, ylabel="time (s)", xscale="log", yscale="log")
        ax.set_xticks(x, [f"{tick:g}" for tick in x])
        ax.set_xticks([], minor=True)
    return figure
