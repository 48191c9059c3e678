"""How things are shown in a notebook, in HTML and in the PDF: tables, figures, texts."""

import inspect
import math
import os
import re
import sys
import textwrap
from base64 import b64encode
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import DisplayHandle, Markdown, display
from matplotlib.colors import to_hex

from ptb.paths import relative
from ptb.report.text import NO_MATHS, as_it_is, latex, references


class Table:
    """A data frame that shows as a table with a caption, in HTML and in the PDF.

    bold are the places of the rows that stand out.
    """

    def __init__(self, frame: pd.DataFrame, caption: str, label: str, bold: Iterable[int] = ()):
        self.frame, self.caption, self.label, self.bold = frame, caption, label, list(bold)

    def _styled(self, css: str, escape):
        frame = self.frame
        if frame.empty:  # Styler and pandoc fail at a table without cells
            columns = list(frame.columns) or [""]
            frame = pd.DataFrame([["no rows"] + [""] * (len(columns) - 1)], columns=columns)
        styler = frame.style.hide(axis="index").format(escape).format_index(escape, axis=1)
        places = [n for n in range(frame.shape[1]) if not are_numbers(frame.iloc[:, n])]
        texts = ", ".join(f"th.col{n}, td.col{n}" for n in places)
        if texts:  # JupyterLab's own style has every column to the right
            styler.set_table_styles([{"selector": texts, "props": "text-align: left"}])
        rows = pd.IndexSlice[frame.index[self.bold], :]
        return styler.map(lambda value: css, subset=rows) if self.bold else styler

    def _repr_html_(self) -> str:
        styler = self._styled("font-weight: bold", references)
        styler.set_table_attributes(f'class="{NO_MATHS}"')
        # links lead here; not the table's <caption>, which is no wider than the table
        caption = f'<p id="{references(self.label)}">{as_it_is(self.caption)}</p>'
        return f"{caption}\n{styler.to_html()}"

    def _repr_latex_(self) -> str:
        styler = self._styled("textbf:--rwrap", latex)
        styler.set_table_styles([], overwrite=True)  # those of HTML
        columns = [styler.data.iloc[:, n] for n in range(styler.data.shape[1])]
        return styler.to_latex(
            hrules=True,
            column_format="".join("r" if are_numbers(column) else "l" for column in columns),
            caption=latex(self.caption),
            label=self.label,
            position_float="centering",
        )

    def __repr__(self) -> str:
        return f"{self.caption}\n{self.frame.to_string(index=False)}"


_NUMBER = r"\d[\d.,]*(?:e[-−+]?\d+)?|[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+|\bof\b|[-+−±·/()%*‡–∞\s]"


def are_numbers(column: Iterable[str]) -> bool:
    """Whether a table has the column to the right: numbers, "5 of 13", "1.4 ± 0.2", dashes."""
    texts = [str(text) for text in column]
    numbers = all(re.sub(_NUMBER, "", text) == "" for text in texts)
    return numbers and any(re.search(r"\d", text) for text in texts)


def table(frame: pd.DataFrame, caption: str, label: str, bold: Iterable[int] = ()) -> Table:
    """frame as a captioned table, rows in bold; other text refers to it by its label."""
    return Table(frame, caption, label, bold)


def show(figure, caption: str, label: str, place: DisplayHandle | None = None) -> None:
    """Displays a figure (or a plot's axes) with its caption, once; in that place if one is given.

    Jupyter and HTML show the caption below the image, the PDF takes both from the metadata.
    """
    figure = getattr(figure, "figure", figure)
    image = b64encode(_bytes(figure, "png")).decode()
    figure.set_layout_engine("none")  # the PDF keeps these places: finding them takes half the time
    html = (  # with its margins: browsers take 40 pixels on both sides too
        f'<figure id="{references(label)}" style="margin: 1em 0">'
        f'<img src="data:image/png;base64,{image}" alt="{references(alt_text(figure))}">'
        f"<figcaption>{as_it_is(caption)}</figcaption></figure>"
    )
    data = {"text/html": html, "application/pdf": b64encode(_bytes(figure, "pdf")).decode()}
    data["text/plain"] = f"{caption}\n{alt_text(figure)}"
    given = {"raw": True, "metadata": {"caption": caption, "label": label}}
    place.update(data, **given) if place else display(data, **given)
    plt.close(figure)


def _bytes(figure, kind: str) -> bytes:
    file = BytesIO()
    figure.savefig(file, format=kind, bbox_inches="tight")
    return file.getvalue()


def alt_text(figure) -> str:
    """What a figure shows, for those who can't see it: its label, or else its axes and legends."""
    if figure.get_label():
        return figure.get_label()
    parts = []
    for axes in figure.axes:
        x, y, names = axes.get_xlabel(), axes.get_ylabel(), axes.get_legend_handles_labels()[1]
        what = [f"{y} over {x}" if x and y else x or y or axes.get_title(), ", ".join(names)]
        parts.append(": ".join(filter(None, what)) or " ".join(t.get_text() for t in axes.texts))
    return "Figure: " + "; ".join(dict.fromkeys(parts))


def source(function) -> Markdown:
    """A function's lines as they stand in its file."""
    lines, first = inspect.getsourcelines(function)
    place = f"`{relative(Path(inspect.getsourcefile(function)))}`, from line {first}:"
    return Markdown(f"{place}\n\n```python\n{textwrap.dedent(''.join(lines))}```")


def watched() -> bool:
    """Whether a person watches: JupyterLab tells its kernels the notebook's name, papermill not."""
    return "JPY_SESSION_NAME" in os.environ


def passage(text: str) -> Markdown:
    """A model's text as a quotation, every character shown as it is."""
    return Markdown("> " + as_it_is(text))


class Surprises:
    """Words, each coloured by its loss in bits, which follows it too.

    typed are the words as they were given, where they differ: shown before the `<unk>` that the
    model read instead.
    """

    def __init__(self, words: list[str], bits: list[float], typed: list[str] | None = None):
        self.words = [
            word if word == given else f"{given} ({word})"
            for word, given in zip(words, typed or words, strict=True)
        ]
        self.bits = bits
        mean = sum(bits) / len(bits)
        perplexity = 2**mean if mean < sys.float_info.max_exp else math.inf
        self.about = f"{mean:.2f} bits per word on average, a perplexity of {perplexity:.1f}."
        if self.words != words:
            self.about += " A word before (<unk>) is not in the vocabulary: the model read <unk>."

    def _repr_html_(self) -> str:
        pairs = zip(self.words, self.bits, strict=True)
        text = " ".join(f"{_coloured(word, bits)}<sup>{bits:.1f}</sup>" for word, bits in pairs)
        scale = " ".join(_coloured(f"{bits} bits", bits) for bits in (0, 4, 8, 12, 16))
        text, about = f'<p style="line-height: 2.4">{text}</p>', as_it_is(self.about)
        return f"{text}<p>Raised: bits. {scale}; {about}</p>"

    def _repr_markdown_(self) -> str:
        pairs = zip(self.words, self.bits, strict=True)
        text = " ".join(f"{as_it_is(word)}^{bits:.0f}^" for word, bits in pairs)
        return f"> {text}\n\nRaised: bits. {as_it_is(self.about)}"

    def __repr__(self) -> str:
        pairs = zip(self.words, self.bits, strict=True)
        return " ".join(f"{word} ({bits:.1f})" for word, bits in pairs) + f"\n{self.about}"


def _coloured(word: str, bits: float) -> str:
    """A word on a background from white to orange at 16 bits."""
    colour = to_hex(plt.get_cmap("Oranges")(min(bits, 16) / 16 * 0.7))
    style = f"background-color: {colour}; color: black; padding: 2px"
    return f'<span style="{style}">{as_it_is(word)}</span>'
