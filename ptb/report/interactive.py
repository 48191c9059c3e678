"""A figure with sliders and text boxes where a person watches, and a still picture elsewhere."""

from collections.abc import Callable
from html import escape

from IPython.display import HTML, display
from ipywidgets import HTML as Message
from ipywidgets import VBox, Widget
from matplotlib.figure import Figure

from ptb.errors import PlainError
from ptb.report.display import show, watched


def explore(draw: Callable[..., Figure], caption: str, label: str, **controls: Widget) -> None:
    """Shows the figure that draw makes of the controls' values, by their names.

    In JupyterLab the controls stand above it, and the figure is drawn anew when one changes; a
    value that draw refuses is one line beside them, and the figure stays. In HTML, in PDF and under
    papermill there is the figure of the controls' first values.
    """
    values = {name: control.value for name, control in controls.items()}
    first = draw(**values)  # before the controls: what it refuses ends the cell
    message = Message()
    if watched():
        display(VBox([*controls.values(), message]))
    place = display(HTML(""), display_id=True)
    show(first, caption, label, place)

    def redraw(change) -> None:
        values = {name: control.value for name, control in controls.items()}
        try:
            figure = draw(**values)
        except PlainError as error:
            message.value = f"<b>{escape(str(error))}</b>"
        else:
            message.value = ""
            show(figure, caption, label, place)

    for control in controls.values():
        control.observe(redraw, "value")
