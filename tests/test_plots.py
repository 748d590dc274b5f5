"""Plots draw what they are given, where they are told, in the book's look."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgba

from occamnets import plots

X, Y = np.arange(4.0), np.array([1.0, 3.0, 2.0, 5.0])


@pytest.fixture
def ax():
    with mpl.rc_context({"backend": "agg"}):
        figure, ax = plt.subplots()
        yield ax
        plt.close(figure)


def test_the_theory_is_a_black_line_through_the_given_points(ax):
    assert plots.theory(ax, X, Y) is ax
    (line,) = ax.get_lines()
    assert (line.get_xydata() == np.column_stack([X, Y])).all()
    assert (line.get_color(), line.get_label(), line.get_linestyle()) == (plots.THEORY, "theory", "-")


def test_a_style_may_be_changed_in_the_call(ax):
    plots.theory(ax, X, Y, label="bound", ls="--", color="red")
    (line,) = ax.get_lines()
    assert (line.get_color(), line.get_label(), line.get_linestyle()) == ("red", "bound", "--")


def test_data_are_points_inside_their_band(ax):
    assert plots.band(ax, X, Y, Y - 0.5, Y + 0.25, label="measured", color=plots.OTHER) is ax
    (line,), (area,) = ax.get_lines(), ax.collections
    assert (line.get_xydata() == np.column_stack([X, Y])).all()
    assert (line.get_color(), line.get_linestyle(), line.get_marker()) == (plots.OTHER, "None", "o")
    corners = {tuple(corner) for corner in area.get_paths()[0].vertices}
    assert {*zip(X, Y - 0.5, strict=True), *zip(X, Y + 0.25, strict=True)} <= corners
    assert tuple(area.get_facecolor()[0]) == to_rgba(plots.OTHER, 0.2)


def test_a_name_stands_at_its_curve_in_its_colour(ax):
    assert plots.name_curve(ax, 1.0, 2.0, "depth 3", color=plots.CONTROL, ha="right") is ax
    (name,) = ax.texts
    assert (name.get_text(), name.xy, name.get_color()) == ("depth 3", (1.0, 2.0), plots.CONTROL)
    assert name.get_horizontalalignment() == "right"


def test_the_style_file_has_the_palette_as_its_cycle():
    with mpl.rc_context():
        plots.use_style()
        cycle = [to_hex(color) for color in mpl.rcParams["axes.prop_cycle"].by_key()["color"]]
        assert cycle == list(plots.PALETTE)
        assert mpl.rcParams["svg.hashsalt"] == "occamnets"


def luminance(color):
    """Relative luminance as WCAG 2 defines it."""
    share = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgba(color)[:3]]
    return 0.2126 * share[0] + 0.7152 * share[1] + 0.0722 * share[2]


def test_data_theory_and_control_can_be_told_apart_from_each_other_and_from_paper():
    for color in (plots.DATA, plots.OTHER, plots.THIRD, plots.THEORY, plots.CONTROL):
        assert 1.05 / (luminance(color) + 0.05) > 3
    assert len({plots.DATA, plots.OTHER, plots.THIRD, plots.THEORY, plots.CONTROL}) == 5
