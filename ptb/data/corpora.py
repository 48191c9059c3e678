"""The corpora that have a name, and your own: a folder with three texts."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ptb.data.corpus import SPLITS, Corpus, from_words, read_words
from ptb.data.penn_treebank import PENN_TREEBANK
from ptb.data.synthetic import embedded
from ptb.errors import CorpusError, SettingError, closest
from ptb.paths import ROOT, expanded, relative


class Entry(NamedTuple):
    """A corpus that has a name: how it is loaded, what reports call it, and its runs' folder."""

    load: Callable[[], Corpus]
    title: str
    study: str  # its runs go to runs/STUDY where no other study is named


CORPORA = {
    "ptb": Entry(PENN_TREEBANK.load, PENN_TREEBANK.title, "dropout"),
    "embedded": Entry(embedded, "an invented language", "demo"),
}


@cache
def _named(name: str) -> Corpus:
    return CORPORA[name].load()


def load(name: str) -> Corpus:
    """The corpus of that name, "ptb" or "embedded", or of a folder with a text for each split.

    The folder's train.txt, valid.txt and test.txt are UTF-8, words with white space between;
    words unseen in training become `<unk>`. Raises what `find_folder` does, and CorpusError.
    """
    if name in CORPORA:
        return _named(name)
    folder = find_folder(name)
    try:
        return from_words(name, {split: read_words(folder / f"{split}.txt") for split in SPLITS})
    except MemoryError:
        raise CorpusError(f"{folder} needs more memory than there is") from None


def title(name: str) -> str:
    """What a report calls the corpus: its title, or the name of its folder."""
    return CORPORA[name].title if name in CORPORA else Path(name).name


def recorded_name(name: str) -> str:
    """What a record calls the corpus: of a folder of your own its path from the repository's root.

    Raises what `find_folder` does, and SettingError where that path is a built-in corpus' name.
    """
    if name in CORPORA:
        return name
    folder = find_folder(name)
    if (recorded := relative(folder)) in CORPORA:
        raise SettingError(
            f"corpus = {name!r} is {folder}, but {recorded!r} is the name of a built-in corpus: "
            "rename the folder"
        )
    return recorded


def find_folder(name: str) -> Path:
    """The folder that name is, seen from the current folder or from the repository's root.

    Raises SettingError where there is none or, by these two ways, more than one; CorpusError where
    it lacks a split.
    """
    bases, given = (Path.cwd(), ROOT), expanded("corpus", name)
    found = {path.resolve() for base in bases if os.path.isdir(path := base / given)}
    if len(found) > 1:
        both = " as well as ".join(map(str, sorted(found)))
        raise SettingError(f"corpus = {name!r} is {both}: rename one of them")
    if not found:
        parent = Path(name).parent
        texts = [text for base in bases for text in (base / parent).glob("*/train.txt")]
        known = [*CORPORA, *(str(parent / text.parent.name) for text in texts)]
        raise SettingError(
            f"corpus = {name!r} is none of {', '.join(known)} and no folder{closest(name, known)}"
        )
    folder = found.pop()
    if missing := [
        f"{split}.txt" for split in SPLITS if not os.path.exists(folder / f"{split}.txt")
    ]:
        raise CorpusError(f"{folder} has no {', '.join(missing)}: a corpus has one text per split")
    return folder
