"""Figures of what goes on in a model, from the numbers of `ptb.evaluation.inspection`.

A word stands as it is, whatever its characters. Each figure's label is its description in words,
for those who cannot see it.
"""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from ptb.report.figures import HEIGHT, WIDTH

SIGNED = {"h", "c", "g", "n"}  # between −1 and 1, c beyond; the gates are between 0 and 1
SHOWN_GATES = {  # what is shown of a step, and what it is
    "h": "state",
    "f": "forget gate: 1 keeps the memory",
    "i": "input gate: 1 writes",
    "o": "output gate: 1 shows the memory",
    "z": "update gate: 1 keeps the state",
    "r": "reset gate: 1 lets the old state in",
}
LINE = 96  # characters in a line of coloured text


def _plain(word: str) -> str:
    """A word whose dollar does not begin mathematics."""
    return word.replace("$", r"\$")


def _word_ticks(axes: Axes, words: list[str]) -> None:
    axes.set_xticks(range(len(words)), [_plain(word) for word in words], rotation=50, ha="right")
    axes.tick_params(axis="x", labelsize=9, rotation_mode="anchor")
    axes.grid(False)


def gates(words: list[str], values: dict[str, Tensor], units: int, title: str) -> Figure:
    """The units that change most, a row each, and their gates, a word a column.

    values are of one layer, (T, H) each, as `read_gates` has them for one text.
    """
    names = [name for name in SHOWN_GATES if name in values]
    state = values["h"]
    moving = state.std(0).topk(min(units, state.shape[1])).indices
    moving = moving[state[:, moving].abs().argmax(0).argsort(stable=True)]  # by when they peak
    size = (max(WIDTH, 0.36 * len(words) + 1.6), 1.3 * len(names) + 0.9)
    figure, places = plt.subplots(
        len(names), 1, figsize=size, sharex=True, squeeze=False, layout="constrained"
    )
    for axes, name in zip(places[:, 0], names, strict=True):
        signed = name in SIGNED
        image = axes.imshow(
            values[name][:, moving].T.numpy(),
            cmap="RdBu_r" if signed else "viridis",
            vmin=-1 if signed else 0,
            vmax=1,
            aspect="auto",
            interpolation="nearest",
        )
        axes.set_title(rf"${name}_t$: {SHOWN_GATES[name]}", loc="left", fontsize=10)
        axes.set(ylabel="unit", yticks=[])
        axes.grid(False)
        figure.colorbar(image, ax=axes, pad=0.01, aspect=12)
    _word_ticks(axes, words)
    figure.suptitle(title, fontsize=11)
    figure.set_label(
        f"{title}: heatmaps of {', '.join(names)}, one above the other; units in rows, "
        f"the words “{' '.join(words)}” in columns."
    )
    return figure


def coloured_texts(words: list[str], values: dict[str, Tensor]) -> Figure:
    """The same text once for each title, each word on the colour of the title's values (T,)."""
    lines = _wrapped(words)
    last = lines[-1][0] + 1
    size = (WIDTH + 0.8, (0.21 * last + 0.45) * len(values) + 0.5)
    figure, places = plt.subplots(len(values), 1, figsize=size, squeeze=False, layout="constrained")
    for axes, (title, series) in zip(places[:, 0], values.items(), strict=True):
        limit = max(series.abs().max().item(), 1e-9)
        colour = plt.get_cmap("RdBu_r")
        shade = Normalize(-1.4 * limit, 1.4 * limit)  # short of the darkest, so that black is read
        for word, value, (line, place) in zip(words, series.tolist(), lines, strict=True):
            box = {"facecolor": colour(shade(value)), "edgecolor": "none", "pad": 1.2}
            axes.text(place, -line, word, family="monospace", fontsize=8.5, color="black",
                      va="center", bbox=box, parse_math=False)  # fmt: skip
        axes.set(xlim=(-0.5, LINE), ylim=(-last + 0.4, 0.6))
        axes.set_title(title, loc="left", fontsize=9)
        axes.axis("off")
    figure.set_label(
        f"The text “{' '.join(words)}”, {len(values)} times, its words coloured by the values of: "
        f"{'; '.join(values)}."
    )
    return figure


def _wrapped(words: list[str]) -> list[tuple[int, int]]:
    """The line and the place in it at which each word begins."""
    found, line, place = [], 0, 0
    for word in words:
        if place and place + len(word) > LINE:
            line, place = line + 1, 0
        found.append((line, place))
        place += len(word) + 1
    return found


def gradient(words: list[str], norms: dict[str, Tensor]) -> Figure:
    """What share each word has in the gradient of the last one's loss, for each model.

    norms are `word_gradients` by the models' names: shares, as models differ in their scale.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
    places = np.arange(len(words) - 1)
    width = 0.8 / len(norms)
    for n, (name, values) in enumerate(norms.items()):
        shares = (values / values.sum()).numpy()
        axes.bar(places + (n - (len(norms) - 1) / 2) * width, shares, width, label=name)
    _word_ticks(axes, words[:-1])
    axes.set_ylabel("share of the gradient")
    axes.set_title(f"What counts for the loss of “{_plain(words[-1])}”", fontsize=10)
    axes.legend()
    most = {name: words[values.argmax()] for name, values in norms.items()}
    figure.set_label(
        f"Bars over the words “{' '.join(words[:-1])}”: shares in the gradient of the loss of "
        f"“{words[-1]}”. Highest: {', '.join(f'{word} ({name})' for name, word in most.items())}."
    )
    return figure


LIKELIEST = 12  # next words that are shown


def next_words(words: list[str], plain: Tensor, changed: Tensor, context: str, how: str) -> Figure:
    """The likeliest next words as bars: as the model has them, and after a change; (V,) each.

    how says what the change is, as "temperature 0.7".
    """
    top = plain.topk(min(LIKELIEST, len(plain))).indices
    names = [words[i] for i in top.tolist()]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.26 * len(names) + 1.1), layout="constrained")
    places, (dark, *_, light) = np.arange(len(names)), sns.color_palette("Blues", 4)[::-1]
    axes.barh(places, plain[top].numpy(), 0.84, color=light, label="as the model has it")
    axes.barh(places, changed[top].numpy(), 0.42, color=dark, label=how)
    axes.set_yticks(places, [_plain(name) for name in names])
    values = changed[top].tolist()
    for place, value, other in zip(places, values, plain[top].tolist(), strict=True):
        axes.text(max(value, other), place, f" {value:.3f}", va="center", fontsize=8)
    axes.set(xlabel="probability", xlim=(0, 1.12 * max(values[0], plain.max().item())))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_title(f"“{_plain(context)} …”", loc="left", fontsize=10)
    axes.legend(loc="lower right")
    pairs = ", ".join(f"{name} {value:.3f}" for name, value in zip(names, values, strict=True))
    figure.set_label(f"Bars of the next word's probability after “{context}”, {how}: {pairs}.")
    return figure


def attention_maps(words: list[str], rows: dict[str, Tensor]) -> Figure:
    """The heads' weights of one layer, a head a column; a row for each (h, T, T), by its name."""
    heads = len(next(iter(rows.values())))
    size = (1.75 * heads + 1.3, 1.75 * len(rows) + 1.1)
    figure, places = plt.subplots(
        len(rows),
        heads,
        figsize=size,
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for line, (name, weights) in zip(places, rows.items(), strict=True):
        for head, axes in enumerate(line):
            image = axes.imshow(weights[head].numpy(), cmap="Blues", vmin=0, vmax=1)
            axes.set_title(f"head {head + 1}, {name}", fontsize=9)
            names = [_plain(word) for word in words]
            axes.set_xticks(range(len(words)), names, rotation=90, fontsize=7)
            axes.set_yticks(range(len(words)), names, fontsize=7)
            axes.grid(False)
    figure.supxlabel("key: the word looked at", fontsize=9)
    figure.supylabel("query: the word that looks", fontsize=9)
    figure.colorbar(image, ax=places, pad=0.01, aspect=30, label="weight")
    figure.set_label(
        f"Attention weights of {heads} heads over “{' '.join(words)}”, {' and '.join(rows)}: "
        "lower triangles, queries in rows and keys in columns."
    )
    return figure
