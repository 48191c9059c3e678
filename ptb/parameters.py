"""A notebook's parameters cell, checked: the setting that it makes, and where the run goes."""

import re
from dataclasses import replace
from pathlib import Path

import torch
from IPython import get_ipython

from ptb.corpus import LOADERS, find_own
from ptb.display import relative
from ptb.recipes import recipe
from ptb.runs import RUNS
from ptb.setting import NAMES, Setting, SettingError, check_names, check_number


def check(names: dict, others: tuple[str, ...]) -> Setting:
    """The setting that a notebook's parameters make; names is the notebook's globals().

    others are the parameters that are no choice of the setting. An unknown name or a bad value
    raises SettingError.
    """
    check_parameters(names, (*NAMES, *others))
    chosen = {name: names[name] for name in NAMES if name in names}
    first = [chosen.pop(name) for name in ("cell", "dropout", "corpus")]
    setting = recipe(*first, **chosen)
    return replace(setting, corpus=_recorded(setting.corpus))


def _recorded(corpus: str) -> str:
    """The corpus as a record names it: a folder of your own as seen from the repository's root."""
    return corpus if corpus in LOADERS else relative(find_own(corpus))


def check_parameters(names: dict, known: tuple[str, ...]) -> None:
    """Raises SettingError for a parameter that the notebook has not: papermill adds any.

    Once all were known, other names come from later cells, and the cells may run again.
    """
    if "_checked" not in names:
        hidden = {*get_ipython().user_ns_hidden, "pu"}
        given = [n for n in names if n[0] != "_" and n not in hidden]
        # an unknown name goes, so that the corrected cell can run again in the same kernel
        values = {n: names.pop(n) for n in given if n not in known}
        check_names(values, known)
    names["_checked"] = True


def check_text(name: str, value) -> str:
    """value, where it is text with a word in it; else raises SettingError."""
    if not isinstance(value, str) or not value.strip():
        raise SettingError(f"{name} = {value!r} must be text in quotes; None takes the default")
    return value


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
    default = {"ptb": "dropout", "embedded": "demo"}.get(setting.corpus, Path(setting.corpus).name)
    if study is None:
        return RUNS / default
    plain = r"\w[\w.-]{0,99}"
    if not re.fullmatch(plain, check_text("study", study)):
        last = Path(study).name
        raise SettingError(
            f"study = {study!r} must be a plain name, of a folder in runs/: did you mean "
            f"{last if re.fullmatch(plain, last) else default!r}? folder takes any other place"
        )
    return RUNS / study


def use_threads(threads: int | None) -> None:
    """Has torch compute on that many threads; None leaves it all cores."""
    if threads is not None:
        torch.set_num_threads(check_number("threads", int, threads))
