"""A report's sentence beside the condition that makes it true.

A person writes the sentence, its numbers come from the records, and `claim(condition, text)` lets
it stand only where the condition holds:

    claim = Claims(published=True)
    bullets(claim(gru < lstm, f"The GRU is ahead, {gru:.1f} against {lstm:.1f}."))

What was not measured is NaN; no comparison with NaN holds, so nothing is claimed of it.
"""

import math
from collections.abc import Iterable

from IPython.display import Markdown

from ptb.errors import ClaimError

OWN_PLACE = (
    "**Your own conclusions.** The sentences above are those of the published report that hold for "
    "your runs too. What do yours show? Write it in this place of the notebook."
)


class Claims:
    """The claims of one report.

    published: whether it reports the repository's own records. enough: whether the text that they
    are measured on is long enough to claim anything.
    """

    def __init__(self, published: bool, enough: bool = True):
        self.published, self.enough = published, enough

    def __call__(self, condition, text: str, otherwise: str = "") -> str:
        """text where the condition holds.

        Where it does not, a published report raises ClaimError, which quotes the text; a report on
        somebody's own runs has `otherwise` in its place, by default nothing.
        """
        if condition and self.enough:
            return text
        if self.published:
            raise ClaimError(f"the records do not support this sentence: “{text}”")
        return otherwise

    def conclusions(self, own: str) -> Markdown:
        """The reader's own conclusions; without any, on their own runs, the place for them."""
        return Markdown(own or ("" if self.published else OWN_PLACE))


def bullets(*sentences: str) -> Markdown:
    """The sentences that stand, as a list."""
    return Markdown("\n".join(f"- {sentence}" for sentence in sentences if sentence))


def paragraph(*sentences: str) -> Markdown:
    """The sentences that stand, one after the other."""
    return Markdown(" ".join(filter(None, sentences)))


def number(value: float, digits: int = 1) -> str:
    """A perplexity, or another number, as tables show it: "82.1", "82,117", "8e11"."""
    if math.isnan(value):
        return "–"
    if value < 1e6:
        return signed(value, f".{digits}f" if value < 1e4 else ",.0f")
    factor, power = f"{value:.0e}".split("e")
    return f"{factor}e{int(power)}"


def signed(value: float, form: str) -> str:
    """A number with a minus sign: a hyphen is printed as now one, now the other."""
    return f"{value:{form}}".replace("-", "−")


def listed(words: Iterable[str]) -> str:
    """Words as a sentence lists them: "a, b and c"."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
