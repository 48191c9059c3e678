"""The diagrams of the cells have every name of their equations, and nothing outside the frame."""

import matplotlib.pyplot as plt
import pytest

from ptb.errors import SettingError
from ptb.report.cell_diagrams import draw_cell
from ptb.report.display import alt_text

NAMES = {
    "lstm": ["c_{t-1}", "c_t", "f_t", "g_t", "h_t", "h_t", "h_{t-1}", "i_t", "o_t", "x_t"],
    "gru": ["W_{hn}", "h_t", "h_t", "h_{t-1}", "n_t", "r_t", "x_t", "z_t"],
}


@pytest.mark.parametrize("cell", NAMES)
def test_a_cells_diagram_names_what_its_equations_name(cell):
    figure = draw_cell(cell)
    (axes,) = figure.axes
    names = [text.get_text().strip("$") for text in axes.texts if "$" in text.get_text()]
    functions = (r"\sigma", r"\tanh", "1-")
    assert sorted(name for name in names if name not in functions) == sorted(NAMES[cell])
    assert alt_text(figure).startswith(f"A drawing of one {cell.upper()} step.")
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    for text in axes.texts:
        box = text.get_window_extent()
        assert frame.contains(*box.min) and frame.contains(*box.max), text.get_text()
    plt.close(figure)


def test_a_diagram_that_there_is_not_is_refused_with_what_was_meant():
    with pytest.raises(
        SettingError, match=r"cell = 'LSMT': .* lstm and gru; did you mean 'lstm'\?"
    ):
        draw_cell("LSMT")
