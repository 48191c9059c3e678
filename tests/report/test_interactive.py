"""A figure follows its controls where a person watches, and stands still elsewhere."""

import matplotlib.pyplot as plt
import pytest
from ipywidgets import IntSlider, VBox

from ptb.errors import SettingError
from ptb.report import interactive


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, controls and all, and the titles of the figures that are shown."""
    displayed, titles = [], []
    monkeypatch.setattr(interactive, "display", lambda thing, **options: displayed.append(thing))

    def show(figure, caption, label, place):
        titles.append(figure.get_suptitle())
        plt.close(figure)

    monkeypatch.setattr(interactive, "show", show)
    return displayed, titles


def draw(size):
    if size == 9:
        raise SettingError("size = 9 is too <large>")
    figure = plt.figure()
    figure.suptitle(f"size {size}")
    return figure


def test_a_person_has_controls_and_the_figure_follows_them(monkeypatch, shown):
    monkeypatch.setenv("JPY_SESSION_NAME", "inside.ipynb")
    displayed, titles = shown
    size = IntSlider(3, 1, 9)
    interactive.explore(draw, "A caption.", "fig:size", size=size)
    (controls,) = [thing for thing in displayed if isinstance(thing, VBox)]
    *others, message = controls.children
    assert others == [size] and titles == ["size 3"]
    size.value = 9
    assert titles == ["size 3"] and "size = 9 is too &lt;large&gt;" in message.value
    size.value = 5
    assert titles == ["size 3", "size 5"] and message.value == ""


def test_elsewhere_there_is_the_picture_alone(monkeypatch, shown):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    displayed, titles = shown
    interactive.explore(draw, "A caption.", "fig:size", size=IntSlider(3, 1, 9))
    assert titles == ["size 3"] and not any(isinstance(thing, VBox) for thing in displayed)


def test_a_first_value_that_is_refused_ends_the_cell(shown):
    with pytest.raises(SettingError, match="size = 9"):
        interactive.explore(draw, "A caption.", "fig:size", size=IntSlider(9, 1, 9))
