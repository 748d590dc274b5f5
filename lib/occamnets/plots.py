"""The book's plots: each takes arrays and an axis, computes nothing, and returns the axis."""

from __future__ import annotations

from importlib.resources import as_file, files

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Six colours that colour-blind readers can tell apart (Okabe and Ito), the style file's cycle."""
DATA = PALETTE[0]
"""The first data set, blue."""
OTHER = PALETTE[1]
"""The second data set, vermilion."""
THIRD = PALETTE[2]
"""The third data set, green."""
THEORY = "#1b1b1b"
"""The theory's line, black."""
CONTROL = "#8c8c8c"
"""The control, grey."""


def use_style() -> None:
    """Load the book's one style file."""
    with as_file(files("occamnets") / "occamnets.mplstyle") as path:
        plt.style.use(path)


def theory(ax: Axes, x: Num[np.ndarray, " k"], y: Num[np.ndarray, " k"], *, label: str = "theory", **style) -> Axes:
    """The prediction, a black line."""
    ax.plot(x, y, **{"color": THEORY, "lw": 1.4, "zorder": 3, "label": label, **style})
    return ax


def band(
    ax: Axes,
    x: Num[np.ndarray, " k"],
    y: Num[np.ndarray, " k"],
    low: Num[np.ndarray, " k"],
    high: Num[np.ndarray, " k"],
    *,
    label: str,
    color: str = DATA,
) -> Axes:
    """Measured points with the band of their decision interval."""
    ax.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
    ax.plot(x, y, "o", color=color, label=label, ms=3.5)
    return ax


def name_curve(ax: Axes, x: float, y: float, name: str, *, color: str, **style) -> Axes:
    """Write a curve's name beside it, in its colour, instead of a legend."""
    ax.annotate(name, (x, y), **{"color": color, "fontsize": 9, "va": "center", **style})
    return ax
