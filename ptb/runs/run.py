"""A run's folder: its files, written atomically, locked while written."""

import hashlib
import io
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ptb.data.corpora import CORPORA
from ptb.data.corpus import Corpus
from ptb.errors import RunError, SettingError, WeightsError
from ptb.models.language_model import LanguageModel, build, load_weights
from ptb.paths import ROOT, RUNS
from ptb.setting import Setting, check_text

HISTORY = ["epoch", "lr", "train_running", "train", "valid", "test", "seconds", "tokens_per_second"]
PUBLISHED = (
    "setting.json",
    "history.csv",
    "weights.safetensors",
    "samples.json",
    "texts.json",
    "analysis.json",
    "metrics.json",
    "train.ipynb",
)
JUDGED = "judged.json"  # written once there are other runs to judge by


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside path and renames: path is the old file or the new, whole.

    Raises RunError where there is no room, no permission or no folder.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()  # what little room there is should be free
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(f"{path} can't be written: {error.strerror or error}")


def write_json(path: Path, value) -> None:
    write_atomically(path, _json_bytes(value, 1))


def _json_bytes(value, indent: int | None) -> bytes:
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def environment() -> dict:
    """Versions, machine, threads and commit: what a figure's reader needs to make it again."""
    packages = {name: version(name) for name in ("torch", "numpy", "pandas", "papermill")}
    return {
        "python": platform.python_version(),
        **packages,
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str | None:
    """The commit at HEAD, "+" behind it where the code differs from it; None outside of git."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        changes = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "ptb", "ptb_utils.py"])
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changes.returncode else "")


def _now() -> str:
    return f"{datetime.now():%Y-%m-%d %H:%M:%S}"


class Run:
    """One run's folder. Its files are the contract between training and every report."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self._me = None  # as its writer; None: it is only read

    @property
    def setting(self) -> Setting:
        return self.read("setting.json", lambda text: Setting(**json.loads(text)["setting"]))

    @property
    def environment(self) -> dict:
        return self.environments[0]

    @property
    def environments(self) -> list[dict]:
        """That in which the run began, then those in which it went on, where they differ."""
        return self.read("setting.json", lambda text: _environments(json.loads(text)))

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
    def history(self) -> pd.DataFrame:
        """A row an epoch, so far."""
        exists = (self.folder / "history.csv").exists()
        return self.read("history.csv", _history) if exists else pd.DataFrame(columns=HISTORY)

    @property
    def done(self) -> bool:
        """Whether the run finished or diverged: metrics.json is written last and whole."""
        return (self.folder / "metrics.json").exists()

    @property
    def complete(self) -> bool:
        """Whether it is done and its executed notebook whole."""
        return self.done and (self.folder / "train.ipynb").exists()

    @property
    def files(self) -> list[Path]:
        """Those of its files that are there by now."""
        return [path for name in (*PUBLISHED, JUDGED) if (path := self.folder / name).exists()]

    def _json(self, name: str):
        return self.read(name, json.loads)

    def read(self, name: str, parse: Callable):
        """What parse makes of a file's text; raises RunError where that can't be."""
        try:
            return parse((self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.folder.name}: {name} is missing") from None
        except (OSError, ValueError, LookupError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise RunError(f"{self.folder.name}: {name} is damaged ({reason})") from None

    @contextmanager
    def writing(self, setting: Setting, text: str | None = None):
        """Locks the folder for the one process that writes it, and checks whose it is.

        text is the fingerprint of the corpus, where there is one to check. Raises RunError where
        another process writes it, and from then on where the folder is deleted: a lock is lost
        with its file, and another process may have begun anew there.
        """
        with self._locked():
            self._claim(setting, text)
            self._me = f"process {os.getpid()} on {platform.node()} since {_now()}"
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
            raise _unwritable(self.folder, error) from None

    def _writer(self) -> str:
        path = self.folder / ".writer"
        return path.read_text(encoding="utf-8") if path.exists() else "another process"

    def _claim(self, setting: Setting, text: str | None) -> None:
        path, here = self.folder / "setting.json", environment()
        if path.exists():
            record = self._json("setting.json")
            self._check_same(setting, text, record.get("text"))
            if not self.done and self.environments[-1] != here:
                write_json(path, record | {"later": [*record.get("later", []), here]})
        else:
            write_json(path, {"setting": asdict(setting), "text": text, "environment": here})

    def _check_same(self, setting: Setting, text: str | None, recorded: str | None) -> None:
        if self.setting != setting:
            raise RunError(f"{self.folder} holds a run of another setting: choose another folder")
        if text and recorded and text != recorded:  # older records have none
            raise RunError(f"{self.folder} holds a run on another text: choose another folder")

    def _tidy(self) -> None:
        """Removes what a killed writer left, and the checkpoint of a run that is done."""
        for partial in self.folder.glob("*.partial"):
            partial.unlink()
        if self.done:
            (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def _write(self, name: str, content: bytes) -> None:
        if self._me and self._me != self._writer():
            raise RunError(f"{self.folder} was deleted while this process wrote it")
        write_atomically(self.folder / name, content)

    def write(self, name: str, value, indent: int | None = 1) -> None:
        self._write(name, _json_bytes(value, indent))

    def write_history(self, rows: list[dict]) -> None:
        table = pd.DataFrame(rows, columns=HISTORY)
        self._write("history.csv", table.to_csv(index=False).encode())

    def write_weights(self, weights: dict[str, torch.Tensor], words: tuple[str, ...]) -> None:
        """The weights as float16, with the vocabulary they belong to."""
        limit = torch.finfo(torch.float16).max
        half = {
            name: w.detach().cpu().clamp(-limit, limit).to(torch.float16).contiguous()
            for name, w in weights.items()
        }
        self._write("weights.safetensors", save(half, {"words": json.dumps(words)}))

    def read_weights(self) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
        """The saved weights as float32, and the vocabulary; raises WeightsError for a bad file."""
        path = self.folder / "weights.safetensors"
        if not path.exists():
            raise WeightsError(f"{path} is missing: copy it again, or train the run again")
        self._verify(path)
        try:
            with safe_open(path, "pt") as file:
                words = tuple(json.loads(file.metadata()["words"]))
                weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
            raise WeightsError(f"{path} is cut short or no weights of a run ({error})") from None
        for name, tensor in weights.items():
            if not tensor.isfinite().all():
                raise WeightsError(f"{path} is damaged: {name} has values that are not finite")
        return weights, words

    def _verify(self, path: Path) -> None:
        """Compares the weights with the hash that the record has; older records have none."""
        recorded = self.metrics.get("weights_sha256") if self.done else None
        if recorded and _sha256(path) != recorded:
            raise WeightsError(f"{path} is not the file that the run saved: its SHA-256 differs")

    def write_checkpoint(self, state: dict) -> None:
        content = io.BytesIO()
        torch.save(state, content)
        self._write("checkpoint.pt", content.getvalue())

    def read_checkpoint(self) -> dict | None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            content = io.BytesIO(path.read_bytes())
        except OSError as error:
            raise RunError(f"{path} can't be read: {error.strerror or error}") from None
        try:  # on the CPU, for it may be a GPU's
            return torch.load(content, map_location="cpu", weights_only=True)
        except MemoryError:
            raise RunError(f"{path} can't be read: there is too little memory") from None
        except Exception as error:  # torch's own advice is to load it without the protection
            raise RunError(
                f"{path} is cut short or no checkpoint of a run ({type(error).__name__}): "
                "delete it, and the run starts again from its first epoch"
            ) from None

    def finish(self, metrics: dict) -> dict:
        """Writes metrics.json, by which the run is done; its checkpoint goes."""
        weights = self.folder / "weights.safetensors"
        if weights.exists():
            metrics = metrics | {"weights_sha256": _sha256(weights)}
        self.write("metrics.json", metrics)
        self._tidy()
        return metrics


def _environments(record: dict) -> list[dict]:
    return [record["environment"], *record.get("later", [])]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        path = Path(check_text("folder", folder))
    for place in (path, *path.parents):
        if place.is_file():
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


def load_model(run: Run, corpus: Corpus) -> LanguageModel:
    """The run's model with its saved weights; raises WeightsError where they are not its own.

    The corpus must have the words that the weights know.
    """
    weights, words = run.read_weights()
    if words != corpus.words:
        raise WeightsError(f"the weights in {run.folder} belong to another vocabulary")
    model = build(run.setting, len(words))
    load_weights(model, weights)
    return model
