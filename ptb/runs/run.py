"""A run's folder: its files, written atomically, locked while written."""

import io
import os
import platform
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock, Timeout

from ptb.data.corpora import CORPORA
from ptb.data.corpus import Corpus
from ptb.errors import RunError, SettingError, WeightsError
from ptb.models.language_model import LanguageModel, build, load_weights
from ptb.paths import RECORDS, RUNS, expanded
from ptb.runs import checkpoint, weights
from ptb.runs.environment import environment
from ptb.runs.files import (
    HISTORY,
    JUDGED,
    NEXT_WEIGHTS,
    PUBLISHED,
    WEIGHTS,
    json_bytes,
    parse_json,
    read_file,
    replace_file,
    sha256,
    unreadable,
    unwritable,
    write_atomically,
    write_json,
)
from ptb.setting import Setting, check_text

CHECKPOINT = "checkpoint.pt"


class Run:
    """One run's folder. Its files are the contract between training and every report."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self._me = None  # as its writer; None: it is only read

    @property
    def setting(self) -> Setting:
        return self.read("setting.json", lambda text: Setting(**parse_json(text)["setting"]))

    @property
    def environment(self) -> dict:
        return self.environments[0]

    @property
    def environments(self) -> list[dict]:
        """That in which the run began, then those in which it went on, where they differ."""

        def parse(text: str) -> list[dict]:
            record = parse_json(text)
            return [record["environment"], *record.get("later", [])]

        return self.read("setting.json", parse)

    @property
    def metrics(self) -> dict:
        return self._json("metrics.json")

    @property
    def samples(self) -> list[dict]:
        """Generated texts; none where the run diverged before an epoch ended."""
        return self._json("samples.json") if (self.folder / "samples.json").exists() else []

    @property
    def texts(self) -> list[dict]:
        """Texts from distinct starts (`generation.write_texts`); none in older runs."""
        return self._json("texts.json") if (self.folder / "texts.json").exists() else []

    @property
    def judged(self) -> dict | None:
        """What the texts cost another model; None where no other read them."""
        return self._json(JUDGED) if (self.folder / JUDGED).exists() else None

    @property
    def analysis(self) -> dict:
        return self._json("analysis.json")

    @property
    def name(self) -> str:
        """The folder's, which "." has too."""
        return self.folder.resolve().name

    @property
    def history(self) -> pd.DataFrame:
        """A row per epoch, so far."""
        exists = (self.folder / "history.csv").exists()
        none = pd.DataFrame(columns=HISTORY, dtype=float)
        return self.read("history.csv", _history) if exists else none

    @property
    def done(self) -> bool:
        """Whether the run finished or diverged: metrics.json is written last and whole."""
        return os.path.exists(self.folder / "metrics.json")  # False for a name that is too long

    @property
    def complete(self) -> bool:
        """Whether it is done and its executed notebook whole."""
        return self.done and (self.folder / "train.ipynb").exists()

    @property
    def has_weights(self) -> bool:
        return (self.folder / WEIGHTS).exists()

    @property
    def files(self) -> list[Path]:
        """Those of its files that are there by now."""
        return [path for name in (*PUBLISHED, JUDGED) if (path := self.folder / name).exists()]

    def _json(self, name: str):
        return self.read(name, parse_json)

    def read(self, name: str, parse: Callable):
        """What parse makes of a file's text; raises RunError where that can't be."""
        return read_file(self.folder / name, parse, f"{self.name}: {name}")

    @contextmanager
    def writing(self, setting: Setting, text: str | None = None):
        """Locks the folder for the one process that writes it, and checks whose it is.

        text is the fingerprint of the corpus, where there is one to check. Raises RunError where
        another process writes it, and from then on where the folder is deleted: a lock is lost
        with its file, and another process may have begun anew there.
        """
        with self._locked():
            self._claim(setting, text)
            now = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
            self._me = f"process {os.getpid()} on {platform.node()} since {now}"
            write_atomically(self.folder / ".writer", self._me.encode())
            self._tidy()
            try:
                yield self
            finally:
                self._me = None

    def _locked(self):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return FileLock(self.folder / ".lock").acquire(timeout=0)
        except Timeout:
            message = f"{self.folder} is being written by {self._writer()}: wait for it or stop it"
            raise RunError(message) from None
        except OSError as error:
            raise unwritable(self.folder, error) from None

    def _writer(self) -> str:
        try:
            return (self.folder / ".writer").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return "another process"

    def _check_still_mine(self) -> None:
        path = self.folder / ".writer"
        try:
            writer = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            writer = None
        except OSError as error:
            raise unreadable(path, error) from None
        if writer != self._me:
            raise RunError(f"{self.folder} was deleted while this process wrote it")

    def _claim(self, setting: Setting, text: str | None) -> None:
        path, here = self.folder / "setting.json", environment()
        if path.exists():
            self._check_same(setting, text)
            record = self._json("setting.json")
            if not self.done and self.environments[-1] != here:
                write_json(path, record | {"later": [*record.get("later", []), here]})
        elif leftover := [*self.files, *self.folder.glob(CHECKPOINT)]:
            names = ", ".join(file.name for file in leftover)
            raise RunError(
                f"{self.folder} has {names} of a run, but no setting.json that says of which: "
                "choose another folder, or delete this one"
            )
        else:
            write_json(path, {"setting": asdict(setting), "text": text, "environment": here})

    def _check_same(self, setting: Setting, text: str | None) -> None:
        if self.setting != setting:
            raise RunError(f"{self.folder} holds a run of another setting: choose another folder")
        recorded = self._json("setting.json").get("text")
        if text and recorded and text != recorded:  # older records have none
            raise RunError(f"{self.folder} holds a run on another text: choose another folder")

    def _tidy(self) -> None:
        """Removes what a killed writer left, and the checkpoint of a run that is done."""
        for partial in self.folder.glob("*.partial"):
            self.remove(partial.name)
        if self.done:
            self.remove(CHECKPOINT)

    def remove(self, name: str) -> None:
        """Deletes one of the folder's files, if it is there."""
        path = self.folder / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{path} can't be deleted: {error.strerror or error}") from None

    def _write(self, name: str, content: bytes) -> None:
        if self._me:
            self._check_still_mine()
        write_atomically(self.folder / name, content)

    def write(self, name: str, value, indent: int | None = 1) -> None:
        self._write(name, json_bytes(value, indent))

    def write_history(self, rows: list[dict]) -> None:
        table = pd.DataFrame(rows, columns=HISTORY)
        self._write("history.csv", table.to_csv(index=False).encode())

    def write_weights(self, tensors: dict[str, torch.Tensor], words: tuple[str, ...]) -> str:
        """Saves weights as float16, with the vocabulary, beside the run's; returns their SHA-256.

        By `settle_weights` they become the run's own.
        """
        self._write(NEXT_WEIGHTS, weights.pack(tensors, words))
        return sha256(self.folder / NEXT_WEIGHTS)

    def settle_weights(self, saved: str | None) -> None:
        """Makes the weights written last the run's, if saved is their SHA-256; else they go.

        A checkpoint and the weights of its best epoch can't be written at once. So a run that is
        killed between the two has either both of them or both of the epoch before.
        """
        path = self.folder / NEXT_WEIGHTS
        if path.exists() and sha256(path) == saved:
            try:
                replace_file(path, self.folder / WEIGHTS)
            except OSError as error:
                raise unwritable(self.folder, error) from None
        else:
            self.remove(NEXT_WEIGHTS)

    def read_weights(self, expected: str | None = None) -> tuple[dict, tuple[str, ...]]:
        """The saved weights as float32 by name, and the vocabulary.

        Raises WeightsError for a bad file, and where its SHA-256 is not the expected one, by
        default the record's; older records have none.
        """
        path = self.folder / WEIGHTS
        if not path.exists():
            remedy = "copy it again, or delete the folder and train the run again"
            if path.resolve().is_relative_to(RECORDS):
                remedy = "of most runs no weights are published: train the run yourself"
            raise WeightsError(f"{path} is missing: {remedy}")
        if expected is None and self.done:
            expected = self.metrics.get("weights_sha256")
        try:
            differs = expected and sha256(path) != expected
        except RunError as error:
            raise WeightsError(str(error)) from None
        if differs:
            raise WeightsError(f"{path} is not the file that the run saved: its SHA-256 differs")
        return weights.read(path)

    def write_checkpoint(self, state: dict) -> None:
        self._write(CHECKPOINT, checkpoint.pack(state))

    def read_checkpoint(self) -> dict | None:
        """None where there is none; raises RunError for a damaged one."""
        path = self.folder / CHECKPOINT
        return checkpoint.read(path) if path.exists() else None

    def receive(self, setting: Setting, files: dict[str, bytes]) -> None:
        """Writes the files of a run that was made elsewhere, by their names."""
        with self.writing(setting):
            for name in (*PUBLISHED, JUDGED):
                if name in files:
                    self._write(name, files[name])
            self._tidy()

    def finish(self, metrics: dict) -> dict:
        """Writes metrics.json, by which the run is done; its checkpoint goes."""
        if self.has_weights:
            metrics = metrics | {"weights_sha256": sha256(self.folder / WEIGHTS)}
        self.write("metrics.json", metrics)
        self._tidy()
        return metrics


def _history(text: str) -> pd.DataFrame:
    kinds = dict.fromkeys(HISTORY, float) | {"epoch": int}
    return pd.read_csv(io.StringIO(text), usecols=HISTORY, dtype=kinds)


def run_folder(setting: Setting, study: str | None, folder: str | None = None) -> Path:
    """Where a run's files go: into folder, by default runs/STUDY/RUN.

    The study is by default that of the setting's corpus. Raises SettingError for what can't be one.
    """
    if study is not None and folder is not None:
        raise SettingError(f"study = {study!r} and folder = {folder!r}: give one of them alone")
    path = _study_folder(setting, study) / setting.name
    if folder is not None:
        path = expanded("folder", check_text("folder", folder))
    for place in (path, *path.parents):
        if os.path.isfile(place):  # False for a name that is too long
            raise SettingError(f"the run's folder would be {path}, but {place} is a file")
    return path


def _study_folder(setting: Setting, study: str | None) -> Path:
    corpus = setting.corpus
    default = CORPORA[corpus].study if corpus in CORPORA else Path(corpus).name
    if study is None:
        return RUNS / default
    plain, study = r"\w[\w.-]{0,99}", check_text("study", study)
    if not re.fullmatch(plain, study):
        last = Path(study).name
        raise SettingError(
            f"study = {study!r} must be a plain name, of a folder in runs/: did you mean "
            f"{last if re.fullmatch(plain, last) else default!r}? folder takes any other place"
        )
    return RUNS / study


def epoch_line(setting: Setting, row: dict) -> str:
    """A row of a run's history, as progress shows it."""
    return (
        f"{setting.name}: epoch {row['epoch']}/{setting.epochs}, "
        f"train {row['train']:.1f}, valid {row['valid']:.1f}, "
        f"{row['seconds'] / 60:.1f} min, {row['tokens_per_second']:,.0f} tokens/s"
    )


def vocabulary(run: Run) -> Corpus:
    """The run's corpus without its texts: the words, which its weights bring along."""
    return Corpus(run.setting.corpus, run.read_weights()[1], {})


def load_model(run: Run, corpus: Corpus, expected: str | None = None) -> LanguageModel:
    """The run's model with its saved weights; raises WeightsError where they are not its own.

    The corpus must have the words that the weights know; expected is the file's SHA-256, by default
    the record's.
    """
    tensors, words = run.read_weights(expected)
    if words != corpus.words:
        raise WeightsError(f"the weights in {run.folder} belong to another vocabulary")
    model = build(run.setting, len(words))
    load_weights(model, tensors)
    return model
