"""Diagrams of the LSTM's and the GRU's cell, as in `ptb.models.cells`, drawn as vector figures.

A box has weights, a circle or an oval acts elementwise, a dot is a branch. The state runs along the
top, the input enters at the bottom, and the output leaves to the right, for the next step, and
upwards, for the next layer. Coordinates are in units of the drawing, 12 wide and 6.15 high.
"""

from collections.abc import Callable

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from ptb.errors import SettingError, meant

BODY, BOX, CIRCLE = "#f3f5f8", "#fde8b4", "#ffffff"
STATE, INPUT, LINE = "#b3352c", "#1f5fa8", "#222222"
SIGMA, TANH = r"$\sigma$", r"$\tanh$"
TOP, LEFT, RIGHT = 4.5, 0.35, 11.65  # the state's height, and the ends of the lines
BACK, FRONT = 2, 4  # zorder: lines lie under boxes and circles


def draw_cell(cell: str) -> Figure:
    """A diagram of one step of the cell, "lstm" or "gru"; another name raises SettingError.

    The GRU is torch's: its reset gate acts after the product with the state.
    """
    if cell not in DRAWINGS:
        raise SettingError(
            f"cell = {cell!r}: there is a diagram of {' and '.join(DRAWINGS)}; "
            f"{meant(cell, DRAWINGS)}"
        )
    figure, axes = plt.subplots(figsize=(7.2, 3.7), layout="constrained")
    axes.set(xlim=(0, 12), ylim=(0, 6.15), aspect="equal")
    axes.axis("off")
    shape = FancyBboxPatch((1.3, 0.75), 9.4, 4.5, boxstyle="round,pad=0,rounding_size=0.35")
    shape.set(facecolor=BODY, edgecolor="#9aa3ad", zorder=0)
    axes.add_patch(shape)
    DRAWINGS[cell](axes)
    _legend(axes)
    figure.set_label(IN_WORDS[cell])
    return figure


def _lstm(axes: Axes) -> None:
    f, i, g, o, shown = 2.9, 4.4, 5.9, 7.4, 9.0  # where the four gates and the output stand
    bus, gates, written = 1.4, 2.3, 3.45  # heights
    _line(axes, (LEFT, TOP), (RIGHT, TOP), colour=STATE, arrow=True)
    _line(axes, (LEFT, bus), (o, bus))
    _line(axes, (2.0, 0.1), (2.0, bus), colour=INPUT)
    _dot(axes, 2.0, bus)
    for x in (f, i, g, o):
        _line(axes, (x, bus), (x, gates - 0.3), arrow=True)
    for x in (f, i, g):
        _dot(axes, x, bus)
    _line(axes, (f, gates + 0.3), (f, TOP - 0.24), arrow=True)  # what is kept
    _line(axes, (i, gates + 0.3), (i, written), (g - 0.24, written), arrow=True)
    _line(axes, (g, gates + 0.3), (g, written - 0.24), arrow=True)
    _line(axes, (g, written + 0.24), (g, TOP - 0.24), arrow=True)  # what is written
    _line(axes, (shown, TOP), (shown, 3.78), colour=STATE, arrow=True)
    _dot(axes, shown, TOP, STATE)
    _line(axes, (shown, 3.3), (shown, gates + 0.24), arrow=True)
    _line(axes, (o + 0.42, gates), (shown - 0.24, gates), arrow=True)  # what is shown
    _line(axes, (shown, gates - 0.24), (shown, bus), (RIGHT, bus), arrow=True)
    _up(axes, 10.15, bus)
    for x, function in ((f, SIGMA), (i, SIGMA), (g, TANH), (o, SIGMA)):
        _box(axes, x, gates, function)
    _pill(axes, shown, 3.54, TANH)
    _times(axes, (f, TOP), (g, written), (shown, gates))
    _plus(axes, g, TOP)
    for x, y, name in ((f, 3.2, "f"), (i, 3.0, "i"), (g, 2.87, "g"), (7.93, gates + 0.24, "o")):
        _label(axes, x + 0.12, y, f"${name}_t$")
    _ends(axes, {TOP: ("c_{t-1}", "c_t"), bus: ("h_{t-1}", "h_t")})
    _label(axes, 2.14, 0.35, "$x_t$", 15)


def _gru(axes: Axes) -> None:
    r, linear, n, z, new = 2.95, 4.55, 6.25, 7.75, 9.25  # where the parts stand
    inputs, states, gates, candidate = 1.1, 1.55, 2.4, 3.45  # heights
    _line(axes, (LEFT, TOP), (RIGHT, TOP), colour=STATE, arrow=True)
    _line(axes, (1.9, TOP), (1.9, states), (z + 0.2, states), (z + 0.2, gates - 0.3), colour=STATE,
          arrow=True)  # fmt: skip
    _dot(axes, 1.9, TOP, STATE)
    _line(axes, (2.3, 0.1), (2.3, inputs), (z - 0.2, inputs), colour=INPUT)
    for x in (r - 0.2, n, z - 0.2):
        _over(axes, x, states)
        _line(axes, (x, inputs), (x, (candidate if x == n else gates) - 0.3), colour=INPUT,
              arrow=True)  # fmt: skip
    for x in (r - 0.2, n):
        _dot(axes, x, inputs, INPUT)
    for x in (r + 0.2, linear):
        _dot(axes, x, states, STATE)
        _line(axes, (x, states), (x, gates - 0.3), colour=STATE, arrow=True)
    _line(axes, (r, gates + 0.3), (r, candidate), (linear - 0.24, candidate), arrow=True)
    _line(axes, (linear, gates + 0.3), (linear, candidate - 0.24), arrow=True)
    _line(axes, (linear + 0.24, candidate), (n - 0.42, candidate), arrow=True)
    _line(axes, (n + 0.42, candidate), (new - 0.24, candidate), arrow=True)
    _over(axes, z, candidate)
    _line(axes, (z, gates + 0.3), (z, TOP - 0.24), arrow=True)  # what is kept
    _line(axes, (z + 0.42, gates), (new - 0.42, gates), arrow=True)
    _line(axes, (new, gates + 0.24), (new, candidate - 0.24), arrow=True)
    _line(axes, (new, candidate + 0.24), (new, TOP - 0.24), arrow=True)  # what is written
    _up(axes, 10.15, TOP)
    for x, y, text in ((r, gates, SIGMA), (linear, gates, "$W_{hn}$"), (n, candidate, TANH),
                       (z, gates, SIGMA)):  # fmt: skip
        _box(axes, x, y, text)
    _pill(axes, new, gates, "$1-$")
    _times(axes, (z, TOP), (new, candidate), (linear, candidate))
    _plus(axes, new, TOP)
    for x, y, name in ((r + 0.12, 3.05, "r"), (z + 0.12, 3.9, "z"), (6.85, 3.68, "n")):
        _label(axes, x, y, f"${name}_t$")
    _ends(axes, {TOP: ("h_{t-1}", "h_t")})
    _label(axes, 2.44, 0.35, "$x_t$", 15)


IN_WORDS = {
    "lstm": "A drawing of one LSTM step. The memory c runs along the top, is multiplied by the "
    "forget gate f, and gains the product of the input gate i and the candidate g; h is the "
    "output gate o times its tanh. The three gates and the candidate read the input x and the "
    "state h before.",
    "gru": "A drawing of one GRU step. The state h runs along the top, is multiplied by the update "
    "gate z, and gains 1 − z times the candidate n, the tanh of the input and of W_hn h times the "
    "reset gate r. Both gates read the input x and the state h before.",
}
DRAWINGS: dict[str, Callable[[Axes], None]] = {"lstm": _lstm, "gru": _gru}


# ---------------------------------------------------------------- the parts
def _line(axes: Axes, *points: tuple, colour: str = LINE, arrow: bool = False) -> None:
    """A line through the points, with a head at the last one if it is an arrow."""
    plain = points[:-1] if arrow else points  # an arrow brings its last stretch along
    axes.plot(*zip(*plain, strict=True), color=colour, lw=1.5, zorder=BACK)
    if arrow:
        style = {"arrowstyle": "-|>,head_width=0.22,head_length=0.4", "color": colour, "lw": 1.5}
        style |= {"shrinkA": 0, "shrinkB": 0, "mutation_scale": 14}
        axes.annotate("", points[-1], points[-2], arrowprops=style, zorder=BACK)


def _dot(axes: Axes, x: float, y: float, colour: str = LINE) -> None:
    axes.add_patch(Circle((x, y), 0.075, color=colour, zorder=FRONT))


def _over(axes: Axes, x: float, y: float) -> None:
    """A gap in the horizontal line at y, where a vertical one passes over it."""
    axes.plot((x - 0.12, x + 0.12), (y, y), color=BODY, lw=4, zorder=BACK, solid_capstyle="butt")


def _up(axes: Axes, x: float, y: float) -> None:
    """The output's way to the layer above, from a branch at y, over the state's line."""
    _dot(axes, x, y, STATE if y == TOP else LINE)
    if y != TOP:
        _over(axes, x, TOP)
    _line(axes, (x, y), (x, 5.95), colour=STATE if y == TOP else LINE, arrow=True)
    _label(axes, x + 0.14, 5.62, "$h_t$", 15)


def _box(axes: Axes, x: float, y: float, text: str) -> None:
    """A function with weights."""
    _rounded(axes, (x - 0.42, y - 0.3), (0.84, 0.6), 0.08, BOX)
    axes.text(x, y, text, ha="center", va="center", fontsize=14, zorder=FRONT, math_fontfamily="cm")


def _pill(axes: Axes, x: float, y: float, text: str) -> None:
    """A function without weights."""
    _rounded(axes, (x - 0.42, y - 0.24), (0.84, 0.48), 0.24, CIRCLE)
    axes.text(x, y, text, ha="center", va="center", fontsize=13, zorder=FRONT, math_fontfamily="cm")


def _rounded(axes: Axes, corner: tuple, size: tuple, radius: float, colour: str) -> None:
    style = f"round,pad=0,rounding_size={radius}"
    shape = FancyBboxPatch(corner, *size, boxstyle=style, fc=colour, ec=LINE, zorder=FRONT)
    axes.add_patch(shape)


def _times(axes: Axes, *centres: tuple) -> None:
    """Circles with a cross, each an elementwise product."""
    for x, y in centres:
        _circle(axes, x, y, (0.17, 0.17), (0.17, -0.17))


def _plus(axes: Axes, x: float, y: float) -> None:
    _circle(axes, x, y, (0.24, 0), (0, 0.24))


def _circle(axes: Axes, x: float, y: float, *strokes: tuple) -> None:
    """A circle with lines through its centre, each given by half of it."""
    axes.add_patch(Circle((x, y), 0.24, facecolor=CIRCLE, edgecolor=LINE, zorder=FRONT))
    for dx, dy in strokes:
        axes.plot((x - dx, x + dx), (y - dy, y + dy), color=LINE, lw=1, zorder=FRONT)


def _label(axes: Axes, x: float, y: float, text: str, size: int = 14) -> None:
    axes.text(x, y, text, va="center", fontsize=size, zorder=FRONT, math_fontfamily="cm")


def _ends(axes: Axes, names: dict[float, tuple[str, str]]) -> None:
    """What comes in from the step before, and what goes on to the next, at each height."""
    for y, (before, after) in names.items():
        _label(axes, LEFT - 0.05, y + 0.28, f"${before}$", 15)
        _label(axes, RIGHT - 0.55, y + 0.28, f"${after}$", 15)


def _legend(axes: Axes) -> None:
    """What a box and a circle mean, below the cell."""
    _rounded(axes, (4.3, 0.19), (0.42, 0.3), 0.06, BOX)
    axes.text(4.87, 0.33, "has weights and biases", va="center", fontsize=10)
    _rounded(axes, (9.0, 0.18), (0.56, 0.32), 0.16, CIRCLE)
    axes.text(9.7, 0.33, "elementwise", va="center", fontsize=10)
