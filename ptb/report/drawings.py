"""Drawings of how a text becomes rows and windows, and of where dropout acts."""

from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from ptb.data.corpus import windows
from ptb.models.cells import CELLS
from ptb.setting import Setting

DROPPED, KEPT = {"color": "tab:red", "ls": "--"}, {"color": "black", "ls": "-"}
BOX = {"boxstyle": "round,pad=0.02,rounding_size=0.08", "fc": "#dbe7f3", "ec": "#44617b"}


def draw_windows(text: str, batch_size: int, bptt: int, offset: int) -> Figure:
    """A drawing of how a text becomes rows and windows, as `ptb.data.corpus.windows` cuts it."""
    words = text.split()
    cut = list(windows(torch.arange(len(words)), batch_size, bptt, offset))
    rows = torch.cat([x for x, _ in cut]).T.tolist()  # (B, L), indices of words
    figure, axes = plt.subplots(figsize=(9, 0.45 * batch_size + 1.2), layout="constrained")
    for row, line in enumerate(rows):
        for step, word in enumerate(line):
            colour = plt.get_cmap("Pastel1")(step // bptt)  # one for each window
            axes.add_patch(Rectangle((step, -row - 1), 1, 1, fc=colour, ec="white"))
            axes.text(step + 0.5, -row - 0.5, words[word], ha="center", va="center", fontsize=9)
        axes.text(-0.1, -row - 0.5, f"row {row + 1}", ha="right", va="center", fontsize=9)
    for n, (x, _) in enumerate(cut):
        axes.text(n * bptt + len(x) / 2, 0.25, f"window {n + 1}", ha="center", fontsize=9)
    used = {word for line in rows for word in line}
    rest = ", ".join(f"“{word}”" for n, word in enumerate(words) if n not in used)
    note = f"in no row: {rest}; the state goes from window to window along each row"
    axes.text(0, -batch_size - 0.6, note, fontsize=8, color="dimgrey")
    axes.set(xlim=(-0.8, len(rows[0])), ylim=(-batch_size - 0.8, 0.8))
    axes.axis("off")
    return figure


def draw_dropout(setting: Setting) -> Figure:
    """The setting's network; its arrows are dashed where dropout acts."""
    draw = _transformer if setting.cell == "transformer" else _recurrent
    figure = draw(setting)
    figure.set_facecolor("white")  # not transparent: it is looked at in dark themes too
    return figure


def _recurrent(setting: Setting) -> Figure:
    """Three steps, side by side: up through the layers, and from step to step within one."""
    dropped = DROPPED if setting.dropout else KEPT
    names = [f"{CELLS[setting.cell].title}, layer {n}" for n in range(1, setting.layers + 1)]
    boxes = ["embedding", *names, "output"]
    words = [("the", "cat"), ("cat", "saw"), ("saw", "a")]
    figure, axes = _canvas(3 * len(words) + 1, len(boxes) + 1)
    for step, (word, target) in enumerate(words):
        x = 3 * step + 1.7
        axes.text(x, -0.25, word, ha="center", va="center", style="italic")
        _arrow(axes, (x, -0.1), (x, 0.2), KEPT)
        for y, name in enumerate(boxes):
            _box(axes, x, y, name)
        for y in range(len(boxes) - 1):
            _arrow(axes, (x, y + 0.7), (x, y + 1.2), dropped)
        _arrow(axes, (x, len(boxes) - 0.3), (x, len(boxes)), KEPT)
        axes.text(x, len(boxes) + 0.15, target, ha="center", va="center", style="italic")
        for y in range(1, len(names) + 1):
            _arrow(axes, (x - 1.95, y + 0.45), (x - 0.98, y + 0.45), KEPT)
    _legend(axes, setting)
    return figure


def _transformer(setting: Setting) -> Figure:
    """One layer, from left to right, between the embedding and the output layer."""
    dropped = DROPPED if setting.dropout else KEPT
    names = [
        "embedding\n+ position",
        "norm,\nattention",
        "+",
        "norm,\nfeed-forward",
        "+",
        "norm,\noutput",
    ]
    figure, axes = _canvas(2.2 * len(names) + 0.4, 2.6)
    places = [2.2 * n + 1.1 for n in range(len(names))]
    for x, name in zip(places, names, strict=True):
        _box(axes, x, 0, name)
    styles = [dropped, dropped, KEPT, dropped, KEPT]
    for (left, right), style in zip(pairwise(places), styles, strict=True):
        _arrow(axes, (left + 0.98, 0.45), (right - 0.98, 0.45), style)
    bend = {"connectionstyle": "arc3,rad=-0.25"}
    _arrow(axes, (places[0], 0.75), (places[2], 0.75), dropped, **bend)  # the sum's own mask
    _arrow(axes, (places[2], 0.75), (places[4], 0.75), KEPT, **bend)
    middle = (places[1] + places[4]) / 2
    axes.text(middle, 1.75, f"a layer; there are {setting.layers}, one after another", ha="center")
    _legend(axes, setting)
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(0.75 * width, 0.6 * (height + 0.8)), layout="constrained")
    axes.set(xlim=(-0.4, width - 0.4), ylim=(-1, height - 0.5))
    axes.axis("off")
    return figure, axes


def _box(axes: Axes, x: float, y: float, name: str) -> None:
    axes.add_patch(FancyBboxPatch((x - 0.95, y + 0.2), 1.9, 0.5, **BOX))
    axes.text(x, y + 0.45, name, ha="center", va="center", fontsize=8)


def _arrow(axes: Axes, start, end, style: dict, **bend) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "lw": 1.2, **style, **bend})


def _legend(axes: Axes, setting: Setting) -> None:
    kept = "never dropped" if setting.dropout else "no dropout"
    axes.plot([], [], label=kept, **KEPT)
    if setting.dropout:
        axes.plot([], [], label=f"dropped with probability {setting.dropout:g}", **DROPPED)
    axes.legend(loc="lower center", ncols=2, frameon=False)
