"""lesson.ipynb runs from top to bottom in a tiny form, and its cells show what its text says."""

import re

import nbformat
import pytest
from papermill import execute_notebook

from ptb.paths import ROOT

TINY = {"hidden": 8, "epochs": 2, "batch_size": 200, "threads": 1}
LESSON = ROOT / "notebooks" / "lesson.ipynb"


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> list[str]:
    """What each code cell of the executed lesson prints; an error in a cell fails here."""
    out = tmp_path_factory.mktemp("lesson") / "lesson.ipynb"
    notebook = execute_notebook(LESSON, out, TINY, cwd=LESSON.parent, progress_bar=False)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in code]


def the_one(shown: list[str], words: str) -> str:
    """The text of the cell that prints these words."""
    (found,) = [text for text in shown if words in text]
    return found


def numbers(pattern: str, text: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, text)]


def test_perplexity_falls_from_that_of_knowing_nothing(shown):
    (untrained,) = numbers(r"untrained: .* perplexity ([\d.]+);", the_one(shown, "untrained"))
    after = numbers(r"epoch \d: validation perplexity ([\d.]+)", the_one(shown, "epoch 1:"))
    (floor,) = numbers(r"floor: perplexity ([\d.]+)", the_one(shown, "frequencies alone: perpl"))
    assert untrained == pytest.approx(361, rel=0.05)
    assert len(after) == 2 and untrained > after[0] > after[1] > floor


def test_the_fast_path_has_the_same_losses_at_each_step(shown):
    text = the_one(shown, "equal at all 20 steps")
    plain, fast = (numbers(rf"{name} ([\d.]+)", text) for name in ("plain", "fast"))
    assert plain == pytest.approx(fast, abs=1e-11) and len(plain) == 6
    assert plain[-1] < plain[0] - 0.1


def test_without_detach_the_second_window_fails(shown):
    text = the_one(shown, "window 1: fine")
    assert "window 2: Trying to backward through the graph a second time" in text


def test_targets_that_are_the_inputs_make_a_loss_that_falls_and_a_model_that_knows_nothing(shown):
    text = the_one(shown, "words that do follow")
    first, last = numbers(r"([\d.]+) at (?:first|the end)", text)
    assert last < first
    assert numbers(r"follow: (\S+)", text)[0] > last


def test_dropout_is_seen_in_training_and_not_in_evaluation(shown):
    text = the_one(shown, "training:  ")
    training, evaluation = (line.split()[1:] for line in text.strip().splitlines())
    assert len(training) == len(evaluation) == 10
    assert len(set(training)) > 1 and len(set(evaluation)) == 1


def test_cells_are_short_and_text_comes_first():
    cells = nbformat.read(LESSON, 4).cells
    assert cells[0].cell_type == "markdown"
    assert max(len(c.source.splitlines()) for c in cells if c.cell_type == "code") <= 15
