"""A run's files by name; files written whole or not at all, read or refused in one line."""

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ptb.errors import RunError

HISTORY = ["epoch", "lr", "train_running", "train", "valid", "test", "seconds", "tokens_per_second"]
WEIGHTS = "weights.safetensors"
NEXT_WEIGHTS = "weights.next.safetensors"  # until a checkpoint knows them
PUBLISHED = (
    "setting.json",
    "history.csv",
    WEIGHTS,
    "samples.json",
    "texts.json",
    "analysis.json",
    "metrics.json",
    "train.ipynb",
)
ADAPTED = "adaptation.json"  # of a study: what `ptb.studies.adaptation` found, beside its runs
JUDGED = "judged.json"  # written once there are other runs to judge by


TRIES = 20 if os.name == "nt" else 1  # to replace a file, 50 ms apart


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside path and renames: path is the old file or the new, whole.

    Raises RunError where there is no space, no permission or no folder.
    """
    # a name that nobody can guess, in a mode that follows no link: else who may write to the
    # folder could have any file of ours overwritten
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with open(partial, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        replace_file(partial, path)
    except BaseException as error:  # Ctrl-C too
        with suppress(OSError):
            partial.unlink()  # what little space there is should be free
        if isinstance(error, OSError):
            raise unwritable(path, error) from None
        raise


def replace_file(partial: Path, path: Path) -> None:
    """os.replace; Windows refuses it for as long as another process has the file open."""
    for _ in range(TRIES - 1):
        with suppress(PermissionError):
            return os.replace(partial, path)
        time.sleep(0.05)
    os.replace(partial, path)


def unwritable(path: Path, error: OSError) -> RunError:
    return RunError(f"{path} can't be written: {error.strerror or error}")


def unreadable(file: Path | str, error: Exception) -> RunError:
    """The line for a file, by its path or name, that may be whole, but can't be had now."""
    reason = "there is too little memory"
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
    return RunError(f"{file} can't be read: {reason}")


def read_file(path: Path, parse: Callable, name: str):
    """What parse makes of a file's text; raises RunError, by that name, where that can't be."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{name} is missing") from None
    except OSError as error:
        raise unreadable(name, error) from None
    except Exception as error:  # whatever a damaged file leads a parser to
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RunError(f"{name} is damaged ({reason})") from None


def write_json(path: Path, value) -> None:
    write_atomically(path, json_bytes(value, 1))


def json_bytes(value, indent: int | None) -> bytes:
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def parse_json(text: str):
    """What a JSON file says; raises ValueError for NaN and Infinity, which JSON does not have."""
    return json.loads(text, parse_constant=_no_number)


def _no_number(name: str):
    raise ValueError(f"{name} is not a JSON number")


def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal digits; raises RunError where it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from None
