"""`Live`: a training run as a notebook shows it, with a bar and a figure drawn anew each epoch."""

import os
import time

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, display

from ptb.report import figures
from ptb.report.display import show
from ptb.runs.run import epoch_line
from ptb.setting import Setting

_BAR = '<progress value="{:.4f}" max="1" style="vertical-align: middle"></progress>'


class Live:
    """Shows a training run as it goes: `train(…, on_epoch=live.epoch, on_step=live.step)`.

    Used in a `with`. Where a person watches in Jupyter, a bar and a figure that is drawn anew after
    each epoch; elsewhere a printed line an epoch, and the figure once, at the end.
    """

    def __init__(self, setting: Setting, floor: dict[str, float]):
        self.setting, self.floor, self.rows = setting, floor, []
        self.watched = "JPY_SESSION_NAME" in os.environ
        self.bar = display(HTML(""), display_id=True) if self.watched else None
        self.figure = display(HTML(""), display_id=True) if self.watched else None
        self.drawn = time.monotonic()

    def step(self, epoch: int, fraction: float, running: float) -> None:
        """The bar, twice a second: epochs finished, part of this one, running perplexity."""
        if self.watched and time.monotonic() - self.drawn > 0.5:
            self.drawn = time.monotonic()
            done = (epoch + fraction) / self.setting.epochs
            text = f"epoch {epoch + 1}/{self.setting.epochs}, running perplexity {running:.1f}"
            self.bar.update(HTML(f"{_BAR.format(done)} {text}"))

    def epoch(self, rows: list[dict]) -> None:
        """The rows of the history so far: new ones are shown."""
        for row in rows[len(self.rows) :]:
            print(epoch_line(self.setting, row), flush=True)
        self.rows = list(rows)
        if self.watched and rows:
            axes = self._draw()
            self.figure.update(axes.figure)
            plt.close(axes.figure)

    def _draw(self):
        return figures.convergence(self.setting, pd.DataFrame(self.rows), self.floor)

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *error) -> None:
        """The end, of a stopped run too: the bar goes, the figure stays."""
        if self.watched:
            self.bar.update(HTML(""))
        elif self.rows:
            show(self._draw(), f"Convergence of {figures.label(self.setting)}.", "fig:convergence")
