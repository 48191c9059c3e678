"""`Live`: a training run as a notebook shows it, with a bar and a figure that grows."""

import time
from collections.abc import Callable

import pandas as pd
from IPython.display import HTML, DisplayHandle, Javascript, display

from ptb.data.corpus import Corpus
from ptb.report import figures
from ptb.report.display import show, watched
from ptb.report.tables import nearest
from ptb.runs.files import HISTORY
from ptb.runs.run import Run, epoch_line
from ptb.setting import Setting

# Without a value, which a browser shows as a bar that moves to and fro.
_UNKNOWN = '<progress style="vertical-align: middle"></progress>'
_BAR = '<progress value="{:.4f}" max="1" style="vertical-align: middle"></progress>'
# Run All leaves the view at the last cell; the training cell is brought back once, as it begins.
# The last cell has the focus, and a browser keeps what has it in place as the figure appears above:
# with overflowAnchor as it is, the view would follow that cell down again.
_INTO_VIEW = """setTimeout(() => {
    const cell = element.closest('.jp-Cell'), panel = cell?.closest('.jp-WindowedPanel-outer');
    if (panel) panel.style.overflowAnchor = 'none';
    cell?.scrollIntoView();
}, 500)"""
AFTER_SPLITS = {  # what comes of the saved weights once every split is measured
    "sliding": "measuring the saved weights again, with a whole window before each word",
    "texts": "writing texts, and what reports need of the model",
}
BAR_EVERY, FIGURE_EVERY = 0.5, 5  # seconds between two drawings; a figure takes a fifth of one


class Live:
    """Shows a training run as it goes: `train(…, on_epoch=live.epoch, on_step=live.step)`.

    Used in a `with`. Where a person watches in Jupyter, a bar and a figure that is drawn anew after
    each epoch, and within the first; elsewhere a printed line per epoch, and the figure once, at
    the end. Dash-dotted is the published run of the same kind, where there is one. log, if given,
    gets each row of the history as a tracker's (`ptb.training.tracking.track`).
    """

    def __init__(
        self, setting: Setting, corpus: Corpus, log: Callable[[dict], None] = lambda row: None
    ):
        self.setting, self.corpus, self.log, self.rows = setting, corpus, log, []
        self.published = nearest(setting)
        self.running: list[tuple[float, float]] = []  # parts of the first epoch, perplexities
        self.began = None  # this sitting's first step: when, and the part of the run done by then
        self.epoch_began = None  # the epoch, when its first step ended, and the part done by then
        self.speed = None  # tokens a second of the last split that was measured
        self.measuring = None  # what is being measured, and since when
        self.watched = watched()
        self.view = display(Javascript(_INTO_VIEW), display_id=True) if self.watched else None
        self.bar = display(HTML(""), display_id=True) if self.watched else None
        self.figure = display(HTML(""), display_id=True) if self.watched else None
        self.bar_drawn = self.figure_drawn = float("-inf")

    # ------------------------------------------------------------ what training calls
    def step(self, epoch: int, fraction: float, running: float) -> None:
        """Epochs finished, part of this one, running perplexity: the bar, twice a second."""
        now, done = time.monotonic(), (epoch + fraction) / self.setting.epochs
        self.began = self.began or (now, done)
        if self.epoch_began is None or self.epoch_began[0] != epoch:
            self.epoch_began = epoch, now, fraction
        if not self.watched or now - self.bar_drawn < BAR_EVERY:
            return
        self.bar_drawn = now
        text = f"epoch {epoch + 1}/{self.setting.epochs}, running perplexity {running:.1f}"
        self.bar.update(HTML(f"{_BAR.format(done)} {text}{self._pace(now, done, fraction)}"))
        if epoch == 0:
            self.running.append((fraction, running))
            if now - self.figure_drawn > FIGURE_EVERY:
                self._draw(self.figure)

    def _pace(self, now: float, done: float, fraction: float) -> str:
        """Tokens a second in this epoch, and the time left at the pace of this sitting."""
        (began, done_before), (_, epoch_began, before) = self.began, self.epoch_began
        if fraction <= before or now <= epoch_began:
            return ""
        tokens = len(self.corpus["train"]) * (fraction - before) / (now - epoch_began)
        left = (now - began) / (done - done_before) * (1 - done)
        return f", {tokens:,.0f} tokens/s, {duration(left)} left"

    def epoch(self, rows: list[dict]) -> None:
        """The rows of the history so far: new ones are shown."""
        for row in rows[len(self.rows) :]:
            print(epoch_line(self.setting, row), flush=True)
            self.log(row)
        self.rows = list(rows)
        if self.watched and rows:
            self._draw(self.figure)

    def measure(self, what: str) -> None:
        """What is measured next of the saved weights: a split, "sliding" windows, or "texts"."""
        now = time.monotonic()
        before, since = self.measuring or (None, now)
        if before is None:
            print("measuring the saved weights on every token of all splits", flush=True)
        elif before in self.corpus.splits:
            self.speed = len(self.corpus[before]) / max(now - since, 0.001)
        self.measuring = what, now
        if what in AFTER_SPLITS:
            text = AFTER_SPLITS[what]
        else:
            tokens = len(self.corpus[what])
            text = f"measuring the saved weights on {what}: {tokens:,} tokens"
            text += f", {duration(tokens / self.speed)}" if self.speed else ""
        if self.watched:
            self.bar.update(HTML(f"{_UNKNOWN} {text}"))

    # ------------------------------------------------------------ the figure
    def _draw(self, place: DisplayHandle | None = None) -> None:
        self.figure_drawn = time.monotonic()
        history = pd.DataFrame(self.rows, columns=HISTORY)
        axes = figures.convergence(self.setting, history, self.corpus.floor)
        caption = f"Convergence of {figures.label(self.setting)}."
        if self.published:
            draw_published(axes, self.published, self.setting)
            caption += " Dash-dotted: validation perplexity of the published run nearest to it."
        if not self.rows:
            parts, perplexities = zip(*self.running, strict=True)
            axes.plot(parts, perplexities, ".-", ms=3, color="grey", label="train, running")
            axes.set_xlim(0, self.setting.epochs + 0.5)
        axes.legend()
        show(axes, caption, "fig:convergence", place)

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *error) -> None:
        """The end, of a stopped run too: the bar goes, the figure stays."""
        if self.watched:
            self.view.update(HTML(""))
            self.bar.update(HTML(""))
        elif self.rows:
            self._draw()


def draw_published(axes, run: Run, setting: Setting) -> None:
    """The published run's validation perplexity; its rate of dropout where it is another."""
    other = f", dropout {run.setting.dropout:g}" if run.setting.dropout != setting.dropout else ""
    history = run.history
    style = {"ls": "-.", "lw": 1, "color": "0.4"}
    axes.plot(history["epoch"], history["valid"], label=f"valid, published run{other}", **style)


def duration(seconds: float) -> str:
    """As a person says it: "40 s", "5 min", "1 h 20 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
