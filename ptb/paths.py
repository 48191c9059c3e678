"""The repository's folders."""

import os
from pathlib import Path

from ptb.errors import SettingError

CODE = Path(__file__).resolve().parents[1]  # where ptb/ lies: the repository, or site-packages


def _root() -> Path:
    """The repository that the code or else the working folder is in.

    Where ptb is installed as a package and there is no repository, files go to the working folder.
    """
    places = (CODE, Path.cwd(), *Path.cwd().parents)
    return next((p for p in places if (p / "notebooks" / "train.ipynb").is_file()), Path.cwd())


ROOT = _root()
NOTEBOOKS = ROOT / "notebooks"
DATA = ROOT / "data"  # Penn Treebank, once it is fetched
RUNS = ROOT / "runs"  # yours: RUNS/STUDY/RUN
RECORDS = ROOT / "report" / "records"  # the published ones, laid out in the same way


def relative(path: Path) -> str:
    """A path as seen from the repository, where it is inside."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def from_here(path: Path) -> str:
    """A path as seen from the current folder; a whole one where that is on another drive."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)


def expanded(name: str, path: str) -> Path:
    """A path that may begin with ~; raises SettingError, naming the parameter, if ~ is nobody's."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = Path(path).parts[0]
        raise SettingError(f"{name} = {path!r}: {user} is not a user here") from None
