"""What a finished run's records must be: their types, and that they agree with one another."""

import math
from functools import cache

import fastjsonschema
import numpy as np
import pandas as pd

from ptb.data.corpus import HELD_OUT, SPLITS
from ptb.errors import RunError, counted
from ptb.models.language_model import count_parameters
from ptb.runs.files import ADAPTED, JUDGED, WEIGHTS, parse_json, sha256
from ptb.runs.run import Run
from ptb.setting import CHOICES, Setting


# ---------------------------------------------------------------- types, as JSON Schema has them
def _object(**properties) -> dict:
    """An object with these properties, all of them required, and any others."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: dict, **more) -> dict:
    return {"type": "array", "items": items, **more}


TEXT = {"type": "string"}
POSITIVE = {"type": "number", "minimum": 0, "maximum": 1e300}  # 1e999 reads as infinite
COUNT = {"type": "integer", "minimum": 1, "maximum": 2**31}  # torch refuses a size beyond sense
LOSS = {"type": "number", "minimum": -0.001, "maximum": 1e300}  # of a sure word it rounds to −0
MEASURED = _object(loss=LOSS, perplexity=POSITIVE, tokens=COUNT)
BINNED = _list(_object(bin=TEXT, loss=LOSS, tokens=COUNT))
BY_STEP = _object(carried=_list(LOSS, minItems=1), fresh=_list(LOSS, minItems=1))
BY_STATE = _list(POSITIVE | {"type": ["number", "null"]}, minItems=1)  # null: not finite
NORMS = _object(average=BY_STATE, each=BY_STATE)
NORMS["properties"] |= {"average, h": BY_STATE, "each, h": BY_STATE}  # of an LSTM
OF_SPLITS = {
    "type": "object",
    "propertyNames": {"enum": list(SPLITS)},
    "additionalProperties": POSITIVE,
}
PLACE = _object(
    python=TEXT, torch=TEXT, platform=TEXT, processor=TEXT, threads=COUNT,
    commit={"type": ["string", "null"]}, papermill={"type": ["string", "null"]},
)  # fmt: skip
PLACE["properties"]["precision"] = {"enum": list(CHOICES["precision"])}  # older records have none

ALWAYS = {"parameters": COUNT, "types": COUNT, "floor": OF_SPLITS}  # in all metrics
DIVERGED = _object(status={"const": "diverged"}, reason=TEXT, best_epoch={"type": "null"}, **ALWAYS)
METRICS = _object(
    status={"enum": ["finished", "diverged"]},
    best_epoch=COUNT,
    **ALWAYS,
    **dict.fromkeys(SPLITS, MEASURED),
)
METRICS["properties"] |= {
    "reason": TEXT,
    "device": TEXT,
    "sliding": {"type": "object", "additionalProperties": MEASURED},
    "weights_sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}
ANALYSIS = _object(
    sentences=_object(loss=_list(LOSS), tokens=_list(COUNT | {"minimum": 0})),
    frequency=BINNED,
    position=BINNED,
    distance=BINNED,
)
ANALYSIS["properties"] |= {
    "steps": BY_STEP,
    "unigram": POSITIVE,
    "flow": _object(before=NORMS, after=NORMS),
}
SETTING = _object(setting={"type": "object"}, environment=PLACE)
SETTING["properties"] |= {"text": {"type": ["string", "null"]}, "later": _list(PLACE)}
ADAPTATION = _object(
    run=TEXT,
    kind={"enum": ["temperature", "dynamic evaluation", "ensemble"]},
    chosen=TEXT,
    valid={"type": "number", "minimum": 1, "maximum": 1e300},
    test={"type": "number", "minimum": 1, "maximum": 1e300},
    minutes=POSITIVE,
    environment=PLACE,
)
ADAPTATION["properties"]["runs"] = _list(TEXT, minItems=2)
ADAPTATION |= {
    "if": {"properties": {"kind": {"const": "ensemble"}}},
    "then": {"required": ["runs"]},
}
SAMPLE = _object(temperature=POSITIVE, text=TEXT)
SAMPLE["properties"]["memorised"] = TEXT
SCHEMAS = {
    "setting.json": SETTING,
    "samples.json": _list(SAMPLE),
    "texts.json": _list(_object(temperature=POSITIVE, start=TEXT, text=TEXT)),
    "analysis.json": ANALYSIS,
    "metrics.json": METRICS,
    "diverged": DIVERGED,  # the metrics of a run without weights that can be measured
    ADAPTED: _list(ADAPTATION),
    JUDGED: _object(judge=TEXT, real=LOSS, losses=_list(LOSS)),
}


@cache
def _validator(name: str):
    return fastjsonschema.compile(SCHEMAS[name])


def typed(run: Run, name: str):
    """What a file of JSON says; raises RunError where a type or a range is not its schema's."""

    def parse(text: str):
        value = parse_json(text)
        no_epoch = isinstance(value, dict) and value.get("best_epoch", 0) is None
        kind = "diverged" if name == "metrics.json" and no_epoch else name
        try:
            return _validator(kind)(value)
        except fastjsonschema.JsonSchemaException as error:
            raise ValueError(str(error).removeprefix("data.")) from None

    return run.read(name, parse)


# ---------------------------------------------------------------- agreement
ROUNDING = 0.005  # more than float16 weights change a perplexity of a model that learned
PRECISION = 1e-6  # of what is the same number twice


def faults(run: Run) -> str | None:
    """Why a run's records can't be reported, in one line; None where they can."""
    if not run.done:
        return f"{run.name}: not finished, it has no metrics.json"
    try:
        reason = _contradiction(run)
    except RunError as error:
        return str(error)
    return f"{run.name}: {reason}" if reason else None


def _contradiction(run: Run) -> str | None:
    """What in the records does not fit the rest; raises RunError for a file that can't be read."""
    metrics, _ = typed(run, "metrics.json"), typed(run, "setting.json")
    setting, history = run.setting, run.history
    wrong = _of_history(history, setting)
    if metrics["best_epoch"] is None:
        return wrong  # it has no more than that
    analysis = typed(run, "analysis.json")
    return (
        wrong
        or _of_metrics(metrics, setting)
        or _of_best(metrics, history, analysis)
        or _of_analysis(metrics, analysis)
        or _of_texts(run)
        or _of_weights(run, metrics)
    )


def _of_history(history: pd.DataFrame, setting: Setting) -> str | None:
    if list(history["epoch"]) != list(range(1, len(history) + 1)):
        return "history.csv has not one row for each epoch from 1 on"
    if len(history) > setting.epochs:
        return f"history.csv has {counted(len(history), 'epoch')}, of {setting.epochs}"
    if not np.isfinite(history).all(axis=None):
        return "history.csv has values that are not finite"
    for name in ("train_running", "train", "valid", "test"):
        if (history[name] < 1 - PRECISION).any():
            return f"history.csv has a {name} below 1, which is no perplexity"
    if (history["lr"] < 0).any() or (history["lr"] > setting.lr * (1 + PRECISION)).any():
        return f"history.csv has a learning rate beyond the setting's, {setting.lr:g}"
    took = np.diff(history["seconds"], prepend=0)  # of each epoch
    if (took <= 0).any() or (history["tokens_per_second"] <= 0).any():
        return "history.csv has epochs that took no time"
    tokens = took * history["tokens_per_second"]
    if tokens.max() > 3.5 * tokens.min():  # of a short text the offset can skip two thirds
        return "history.csv has epochs whose seconds and tokens per second do not fit"
    return None


def _of_metrics(metrics: dict, setting: Setting) -> str | None:
    found = {split: metrics[split] for split in SPLITS}
    found |= {f"{split}, sliding,": value for split, value in metrics.get("sliding", {}).items()}
    for name, measured in found.items():
        loss, perplexity = measured["loss"], measured["perplexity"]
        if not loss < 709 or not math.isclose(math.exp(loss), perplexity, rel_tol=PRECISION):
            return f"{name} perplexity is {perplexity:.2f} in metrics.json, its loss {loss:.4f}"
    parameters = count_parameters(setting, metrics["types"])
    if parameters != metrics["parameters"]:
        return f"metrics.json has {metrics['parameters']} parameters, its setting {parameters}"
    return None


def _of_best(metrics: dict, history: pd.DataFrame, analysis: dict) -> str | None:
    best = metrics["best_epoch"]
    if best > len(history):
        return f"history.csv has no row for the best epoch, {best}"
    row = history.iloc[best - 1]
    if row["valid"] > history["valid"].min():
        found = history["valid"].idxmin() + 1
        return f"the best epoch is {best} in metrics.json, {found} in history.csv"
    if row["valid"] >= analysis.get("unigram", math.inf):
        return None  # it learned nothing, and rounded weights may do anything
    for split in HELD_OUT:
        recorded = metrics[split]["perplexity"]
        if abs(row[split] - recorded) > ROUNDING * recorded:
            return (
                f"{split} perplexity is {recorded:.2f} in metrics.json, "
                f"{row[split]:.2f} at epoch {best} in history.csv"
            )
    return None


def _of_analysis(metrics: dict, analysis: dict) -> str | None:
    """The test split's losses, summed by sentence and by each kind of bin, are its loss."""
    test, sentences = metrics["test"], analysis["sentences"]
    if len(sentences["loss"]) != len(sentences["tokens"]):
        return "analysis.json has not one loss for each sentence"
    sums = {"sentences": (sum(sentences["loss"]), sum(sentences["tokens"]))}
    for by in ("frequency", "position", "distance"):
        sums[by] = tuple(sum(part[name] for part in analysis[by]) for name in ("loss", "tokens"))
    for by, (loss, tokens) in sums.items():
        mean = loss / max(tokens, 1)
        # sentences' sums are rounded to 1e-4
        if tokens != test["tokens"] or abs(mean - test["loss"]) > 1e-4 * max(1, mean):
            return (
                f"the test loss is {test['loss']:.4f} in metrics.json, over {test['tokens']} "
                f"tokens; {mean:.4f} by {by} in analysis.json, over {tokens}"
            )
    return None


def _of_texts(run: Run) -> str | None:
    samples = typed(run, "samples.json")
    if [sample["temperature"] for sample in samples].count(1) != 1:
        return "samples.json has not one sample at temperature 1"
    texts, judged = (
        typed(run, name) if (run.folder / name).exists() else None
        for name in ("texts.json", JUDGED)
    )
    if judged and len(judged["losses"]) != len(texts or []):
        return f"{JUDGED} has not one loss for each text"
    return None


def _of_weights(run: Run, metrics: dict) -> str | None:
    """Weights may be left out of a record, but not replaced; older records have no hash."""
    path, recorded = run.folder / WEIGHTS, metrics.get("weights_sha256")
    if recorded and path.exists() and sha256(path) != recorded:
        return f"{WEIGHTS} is not the file that the run saved: its SHA-256 differs"
    return None
