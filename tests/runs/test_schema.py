"""ptb.runs.schema: records that are damaged or contradict one another are named, none is fatal."""

import json
import math
import shutil
from collections.abc import Iterator

import pandas as pd
import pytest
from conftest import make_corpus, make_setting

from ptb.errors import RunError
from ptb.paths import RECORDS
from ptb.runs.environment import environment
from ptb.runs.files import ADAPTED, HISTORY
from ptb.runs.run import Run
from ptb.runs.table import faults, find_runs, read_adapted
from ptb.training.train import train

JSON = ("setting.json", "metrics.json", "analysis.json", "samples.json", "texts.json")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Run:
    """A trained run with all its files; judged, and beside another."""
    folder = tmp_path_factory.mktemp("study") / "trained"
    train(make_setting(epochs=4, lr=2.0), make_corpus(), folder)
    run = Run(folder)
    clock = {"seconds": run.history["epoch"] * 2.0, "tokens_per_second": 150.0}
    run.write_history(run.history.assign(**clock))  # so that no test hangs on the machine's load
    losses = [1.5] * len(run.texts)
    run.write("judged.json", {"judge": "another", "real": 2.5, "losses": losses})
    assert faults(run) is None
    return run


@pytest.fixture(scope="module")
def damaged(sound, tmp_path_factory):
    """A function that says what is wrong where one file of the run has another content."""
    copy = shutil.copytree(sound.folder, tmp_path_factory.mktemp("damaged") / "trained")

    def damage(name: str, content: bytes) -> str | None:
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(content)
        try:
            line = faults(Run(copy))
        finally:
            (copy / name).write_bytes(whole)
        assert line is None or line.startswith("trained: ") and "\n" not in line
        return line

    return damage


def places(value, path=()) -> Iterator[tuple]:
    """The way to each key and value in a JSON file; of a list, to the first entry alone."""
    inside = value.items() if isinstance(value, dict) else list(enumerate(value))[:1]
    for key, part in inside:
        yield (*path, key)
        if isinstance(part, dict | list):
            yield from places(part, (*path, key))


def changed(text: str, path: tuple, change) -> bytes:
    value = json.loads(text)
    part = value
    for key in path[:-1]:
        part = part[key]
    change(part, path[-1])
    return json.dumps(value).encode()


# what may be missing: a record may be older, or the corpus have no known floor; a choice of the
# setting that is its default; an entry of a list of bins, where its sums still fit
OPTIONAL = {
    ("metrics.json", "device"), ("metrics.json", "weights_sha256"), ("analysis.json", "steps"),
    ("analysis.json", "unigram"), ("analysis.json", "flow"), ("setting.json", "text"),
    ("setting.json", "environment", "numpy"), ("setting.json", "environment", "pandas"),
    ("setting.json", "environment", "precision"),
    *(("samples.json", n, "memorised") for n in range(3)),
    *(("analysis.json", "flow", when, norm)
      for when in ("before", "after") for norm in ("average, h", "each, h")),
}  # fmt: skip


def test_whatever_key_is_missing_is_named(sound, damaged):
    unnamed, count = set(), 0
    for name in JSON:
        text = (sound.folder / name).read_text()
        for path in places(json.loads(text)):
            if not isinstance(path[-1], str):
                continue
            count += 1
            line = damaged(name, changed(text, path, lambda part, key: part.pop(key)))
            own_choice = path[0] == "setting" and len(path) == 2
            if line is None and not own_choice:
                unnamed.add((name, *path))
    assert count > 90 and unnamed <= OPTIONAL


WRONG = (None, "great", [], {"a": 1}, True, -1, math.nan, 1e999, 10**400)


def test_whatever_value_has_a_wrong_type_is_named(sound, damaged):
    unnamed, count = [], 0
    for name in JSON:
        text = (sound.folder / name).read_text()
        for path in places(json.loads(text)):
            if (name, *path) in OPTIONAL or path[:1] == ("setting",) and len(path) > 1:
                continue  # Setting checks its own
            for wrong in WRONG:
                count += 1
                if not damaged(
                    name, changed(text, path, lambda p, k, w=wrong: p.__setitem__(k, w))
                ):
                    unnamed.append((name, *path, wrong))
    assert count > 400
    allowed = [  # a text that is another text, a place in words of its own, no corpus, no commit
        case for case in unnamed if case[-1] == "great" or case[-1] is None
    ]
    assert [case for case in unnamed if case not in allowed] == []
    assert {case[1] if case[0] == "setting.json" else case[-2] for case in allowed} <= {
        "environment", "text", "start", "bin", "judge", 0,  # 0: a norm that is not finite
    }  # fmt: skip


# ---------------------------------------------------------------- the history
def as_csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


UNKNOWABLE = {"train_running", "train"}  # no other file has them, and either may be the lower


def test_columns_that_are_swapped_or_missing_are_named(tmp_path):
    """Of a published record: in a tiny run splits may be as easy as one another."""
    (published,) = (RECORDS / "dropout").glob("lstm-dropout0.25-*")
    run = Run(shutil.copytree(published, tmp_path / "run"))
    history = run.history
    for place, first in enumerate(HISTORY):
        (run.folder / "history.csv").write_bytes(as_csv(history.drop(columns=first)))
        assert faults(run), first
        for second in HISTORY[place + 1 :]:
            swapped = history.rename(columns={first: second, second: first})
            (run.folder / "history.csv").write_bytes(as_csv(swapped))
            assert faults(run) or {first, second} == UNKNOWABLE, (first, second)


@pytest.mark.parametrize("name", HISTORY)
@pytest.mark.parametrize("value", ["great", "nan", "-inf", "-1", ""])
def test_cells_that_are_no_numbers_are_named(sound, damaged, name, value):
    table = sound.history.astype(object)
    table.loc[1, name] = value
    assert damaged("history.csv", as_csv(table))


def test_rows_that_are_missing_doubled_or_too_many_are_named(sound, damaged):
    history = sound.history
    assert damaged("history.csv", as_csv(history[1:]))
    assert damaged("history.csv", as_csv(history.iloc[[0, 0, 1, 2]]))
    more = history.iloc[[-1]].assign(epoch=5, seconds=10.0)
    line = damaged("history.csv", as_csv(pd.concat([history, more])))
    assert line == "trained: history.csv has 5 epochs, of 4"


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_epochs_of_a_very_short_text_differ_and_are_sound(seed, tmp_path):
    setting = make_setting(batch_size=20, bptt=35, epochs=8, seed=seed)
    train(setting, make_corpus(train=64), tmp_path / "run")
    assert faults(Run(tmp_path / "run")) is None


# ---------------------------------------------------------------- falsehoods
def falsehood(name: str, said: str, *path, value):
    return pytest.param(name, path, value, said, id=said[:50])


@pytest.mark.parametrize(
    ("name", "path", "value", "said"),
    [
        falsehood("metrics.json", "test perplexity is 2.00 in metrics.json, its loss",
                  "test", "perplexity", value=2.0),
        falsehood("metrics.json", "status must be one of ['finished', 'diverged']",
                  "status", value="great"),
        falsehood("metrics.json", "the best epoch is 1 in metrics.json, 4 in history.csv",
                  "best_epoch", value=1),
        falsehood("metrics.json", "history.csv has no row for the best epoch, 5",
                  "best_epoch", value=5),
        falsehood("metrics.json", "7 parameters, its setting", "parameters", value=7),
        falsehood("metrics.json", "valid perplexity is 1.01 in metrics.json",
                  "valid", value={"loss": math.log(1.01), "perplexity": 1.01, "tokens": 60}),
        falsehood("metrics.json", "the test loss is", "test", "tokens", value=60),
        falsehood("metrics.json", "SHA-256 differs", "weights_sha256", value="0" * 64),
        falsehood("setting.json", "parameters, its setting", "setting", "hidden", value=7),
        falsehood("setting.json", "history.csv has 4 epochs, of 3", "setting", "epochs", value=3),
        falsehood("analysis.json", "by sentences in analysis.json",
                  "sentences", "loss", 0, value=99.0),
        falsehood("analysis.json", "by frequency in analysis.json",
                  "frequency", 0, "tokens", value=1),
    ],
)  # fmt: skip
def test_falsehoods_are_named(sound, damaged, name, path, value, said):
    text = (sound.folder / name).read_text()
    line = damaged(name, changed(text, path, lambda part, key: part.__setitem__(key, value)))
    assert said in line


def test_any_byte_of_the_weights_that_is_flipped_is_named(sound, damaged):
    whole = (sound.folder / "weights.safetensors").read_bytes()
    for place in range(0, len(whole), len(whole) // 20):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        assert "SHA-256 differs" in damaged("weights.safetensors", bytes(flipped))


ADAPTED_ROW = {
    **{"run": "", "runs": ["one", "two"], "kind": "ensemble", "chosen": "equal weights"},
    **{"valid": 80.0, "test": 78.0, "minutes": 0.3, "environment": environment()},
}


@pytest.mark.parametrize("name", [*ADAPTED_ROW])
@pytest.mark.parametrize("wrong", [None, [], -1, True, math.nan, "missing"])
def test_what_is_wrong_in_an_adaptation_is_named(name, wrong, tmp_path):
    row = dict(ADAPTED_ROW)
    (tmp_path / ADAPTED).write_text(json.dumps([row]))
    assert read_adapted(tmp_path) == [row]
    row[name] = wrong
    if wrong == "missing":
        del row[name]
    (tmp_path / ADAPTED).write_text(json.dumps([row]))
    with pytest.raises(RunError, match=f"{tmp_path.name}: adaptation.json is damaged"):
        read_adapted(tmp_path)


@pytest.mark.parametrize("name", [*JSON, "history.csv", "judged.json"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"{", b"[" * 100_000, b"null", b"7", b'"text"', b"\x00" * 9]
)
def test_files_of_other_content_are_named(damaged, name, content):
    assert damaged(name, content)


@pytest.mark.parametrize("name", [*JSON, "history.csv", "judged.json", "weights.safetensors"])
def test_a_folder_where_a_file_belongs_is_named(sound, tmp_path, name):
    folder = shutil.copytree(sound.folder, tmp_path / "copy")
    (folder / name).unlink()
    (folder / name).mkdir()
    assert f"{name} can't be read: Is a directory" in faults(Run(folder))


def test_all_published_records_are_sound_and_called_after_their_setting():
    runs = [run for study in sorted(RECORDS.iterdir()) for run in find_runs(study)]
    for study in RECORDS.iterdir():
        read_adapted(study)
    assert len(runs) >= 38
    assert [fault for run in runs if (fault := faults(run))] == []
    assert [run.folder.name for run in runs] == [run.setting.name for run in runs]
