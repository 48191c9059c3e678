"""The table of a model's parameters: what it holds, tensor by tensor, against the formula."""

import pandas as pd
from torch import Tensor

from ptb.models.cells import find_cell
from ptb.models.language_model import LanguageModel, RecurrentModel, TransformerModel, build
from ptb.report.display import Table, table
from ptb.setting import Setting


def model_table(setting: Setting, vocabulary: int) -> Table:
    """The model's parameters, tensor by tensor against the formula."""
    rows = parameter_table(build(setting, vocabulary), setting)
    held, expected = (sum(row[key] for row in rows) for key in ("held", "expected"))
    rows.append({"place": "all", "tensors": "", "held": held, "formula": "", "expected": expected})
    frame = pd.DataFrame(rows)
    frame["agree"] = (frame["held"] == frame["expected"]).map({True: "yes", False: "NO"})
    for column in ("held", "expected"):
        frame[column] = [f"{count:,}" for count in frame[column]]
    return table(frame, "The parameters that the model holds, and their formula.", "tab:model")


def parameter_table(model: LanguageModel, setting: Setting) -> list[dict]:
    """Tensor by tensor: its place, shape and count; by layer, the formula and its count."""
    vocabulary, inputs = model.embedding.weight.shape
    rows = [_row("embedding", {"weight": model.embedding.weight}, "V·E", vocabulary * inputs)]
    layer_rows = _decoder_rows if setting.cell == "transformer" else _recurrent_rows
    rows += layer_rows(model, setting)
    output = dict(model.output.named_parameters())
    if setting.tied:
        del output["weight"]
    formula, count = (
        ("V", vocabulary) if setting.tied else ("V·H + V", vocabulary * (setting.hidden + 1))
    )
    return [*rows, _row("output", output, formula, count)]


def _recurrent_rows(model: RecurrentModel, setting: Setting) -> list[dict]:
    cell, rows = find_cell(setting.cell), []
    sizes = [setting.embedding] + [setting.hidden] * (setting.layers - 1)
    for n, (layer, size) in enumerate(zip(model.layers, sizes, strict=True), 1):
        biases = "2·H" if setting.biases == 2 else "H"
        formula = f"{cell.gates}·(H·{'E' if n == 1 else 'H'} + H·H + {biases})"
        if cell.recurrent != cell.gates:
            formula = f"{cell.gates}·(H·{'E' if n == 1 else 'H'} + H)"
            state = "(H·H + H)" if setting.biases == 2 else "H·H"
            formula += f" + {cell.recurrent}·{state}" if cell.recurrent else ""
        count = cell.parameter_count(size, setting.hidden, setting.biases)
        rows.append(_row(f"layer {n}", dict(layer.named_parameters()), formula, count))
    if setting.projected:
        held, size = dict(model.projection.named_parameters()), setting.hidden
        rows.append(_row("projection", held, "H·H + H", size * size + size))
    return rows


def _decoder_rows(model: TransformerModel, setting: Setting) -> list[dict]:
    hidden, wide = setting.hidden, setting.feedforward
    counts = {
        "attention": ("4·(H·H + H)", 4 * hidden * (hidden + 1)),
        "feedforward": ("2·H·F + F + H", 2 * hidden * wide + wide + hidden),
    }
    norm = "2·H", 2 * hidden
    rows = [
        _row(f"layer {n}, {name}", dict(part.named_parameters()), *counts.get(name, norm))
        for n, layer in enumerate(model.layers, 1)
        for name, part in layer.named_children()
        if list(part.parameters())
    ]
    return [*rows, _row("last norm", dict(model.norm.named_parameters()), *norm)]


def _row(place: str, tensors: dict[str, Tensor], formula: str, count: int) -> dict:
    shapes = ", ".join(f"{name} {'×'.join(map(str, t.shape))}" for name, t in tensors.items())
    held = sum(t.numel() for t in tensors.values())
    return {"place": place, "tensors": shapes, "held": held, "formula": formula, "expected": count}
