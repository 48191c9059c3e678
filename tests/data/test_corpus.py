"""ptb.data.corpus: windows leave out nothing they should not; your own texts are read."""

import os
import subprocess
import tracemalloc

import pytest
import torch

import ptb_utils as pu
from ptb import paths
from ptb.data import corpora, corpus
from ptb.data.corpora import load
from ptb.data.corpus import windows
from ptb.errors import CorpusError, SettingError
from ptb.paths import ROOT
from ptb.training.train import train

SIZES = [  # tokens, B, T, offset
    (50, 1, 7, 0),
    (50, 4, 5, 0),
    (50, 4, 5, 3),
    (49, 4, 12, 0),
    (53, 4, 100, 11),
    (53, 7, 1, 2),
    (9, 8, 3, 0),
]


@pytest.mark.parametrize(("tokens", "batch_size", "bptt", "offset"), SIZES)
def test_every_target_is_used_once_but_offset_and_remainder(tokens, batch_size, bptt, offset):
    cut = list(windows(torch.arange(tokens), batch_size, bptt, offset))
    used = sorted(torch.cat([y.flatten() for _, y in cut]).tolist())
    left_over = (tokens - 1 - offset) % batch_size
    assert used == list(range(offset + 1, tokens - left_over))


@pytest.mark.parametrize(("tokens", "batch_size", "bptt", "offset"), SIZES)
def test_rows_are_contiguous_over_windows(tokens, batch_size, bptt, offset):
    cut = list(windows(torch.arange(tokens), batch_size, bptt, offset))
    x = torch.cat([x for x, _ in cut])  # (L, B)
    assert (x[1:] - x[:-1] == 1).all()
    assert x[0].tolist() == [offset + row * len(x) for row in range(batch_size)]


@pytest.mark.parametrize(("tokens", "batch_size", "bptt", "offset"), SIZES)
def test_targets_are_the_inputs_one_further_on(tokens, batch_size, bptt, offset):
    for x, y in windows(torch.arange(tokens), batch_size, bptt, offset):
        assert x.shape == y.shape
        assert (y == x + 1).all()


def test_windows_have_t_steps_and_the_last_the_rest():
    cut = list(windows(torch.arange(4 * 12 + 1), 4, 5))
    assert [tuple(x.shape) for x, _ in cut] == [(5, 4), (5, 4), (2, 4)]


@pytest.mark.parametrize(("tokens", "offset"), [(4, 0), (10, 6), (10, 30), (1, 0), (0, 0)])
def test_text_too_short_for_the_rows_is_refused(tokens, offset):
    allowed = max(tokens - 1 - offset, 0)
    said = f"^{tokens} tokens from offset {offset} .* = 4 rows: it can be {allowed} at most$"
    with pytest.raises(CorpusError, match=said):
        list(windows(torch.arange(tokens), 4, 5, offset))


def test_shortest_text_that_fills_the_rows():
    ((x, y),) = windows(torch.arange(5), 4, 5)
    assert (x.tolist(), y.tolist()) == ([[0, 1, 2, 3]], [[1, 2, 3, 4]])


def test_windows_are_counted_and_take_no_memory_before_they_are_read():
    ids = torch.arange(4 * 12 + 1, dtype=torch.int32)
    cut = windows(ids, 4, 5)
    assert len(cut) == len(list(cut)) == 3
    assert {rows.untyped_storage().data_ptr() for rows in cut.rows} == {ids.data_ptr()}
    assert {part.dtype for pair in cut for part in pair} == {torch.int64}


# ---------------------------------------------------------------- a text of one's own
OWN = {"train": "b a <unk>\na b a\n", "valid": "b c\n", "test": "a\n"}


def write_texts(folder, **altered):
    """A corpus's three texts, as text or bytes; None leaves one out."""
    folder.mkdir(parents=True)
    for split, text in (OWN | altered).items():
        if text is not None:
            content = text if isinstance(text, bytes) else text.encode()
            (folder / f"{split}.txt").write_bytes(content)
    return str(folder)


def test_own_texts_are_read_and_unseen_words_become_unk(tmp_path):
    loaded = load(write_texts(tmp_path / "mytext", valid="b c <unk>"))
    assert loaded.words == ("a", "<eos>", "b", "<unk>")  # by frequency, then by the alphabet
    assert loaded["train"].tolist() == [2, 0, 3, 1, 0, 2, 0, 1]
    assert loaded.text(loaded["valid"].tolist()) == "b <unk> <unk> <eos>"  # the last line ends too
    assert {ids.dtype for ids in loaded.splits.values()} == {torch.int32}


@pytest.mark.parametrize("block", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("end", ["", "\n", " ", " word", "\r\n"])
def test_blocks_of_any_size_give_the_same_words(tmp_path, monkeypatch, block, end):
    text = "\ufeffone  two\tthrée\u00a0four\r\n\n five" + end
    folder = write_texts(tmp_path / "mytext", train=text, valid="one", test="two")
    monkeypatch.setattr(corpus, "BLOCK", block)
    loaded = load(folder)
    last = "five word" if end == " word" else "five"
    expected = f"one two thrée four <eos> <eos> {last} <eos>"
    assert loaded.text(loaded["train"].tolist()) == expected


@pytest.mark.parametrize("lines", [1, 5_000])
def test_reading_takes_less_than_three_times_the_file(tmp_path, lines):
    text = (" ".join(["word"] * (100_000 // lines)) + "\n") * lines
    folder = write_texts(tmp_path / "mytext", train=text, valid="word", test="word")
    tracemalloc.start()
    loaded = load(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(loaded["train"]) == 100_000 + lines
    assert peak < 3 * len(text)


@pytest.mark.parametrize(
    ("altered", "said"),
    [
        ({"valid": None, "test": None}, "mytext has no valid.txt, test.txt: a corpus has one text"),
        ({"train": ""}, "train.txt is empty: it needs a line of words"),
        ({"test": "\n \n"}, "test.txt is empty"),
        ({"valid": b"caf\xe9 b\n"}, "valid.txt is not UTF-8 .*iconv -f LATIN1 -t UTF-8 valid.txt"),
        (
            {"valid": "café b\n".encode("utf-16")},
            "is UTF-16, not UTF-8: .*iconv -f UTF-16 -t",
        ),
        ({"valid": "a b\n".encode("utf-32")}, "is UTF-32, not UTF-8: .*iconv -f UTF-32 -t UTF-8"),
        ({"valid": "café b\n".encode("utf-16-le")}, "is UTF-16LE, .*iconv -f UTF-16LE -t UTF-8"),
        ({"valid": "the cat\n".encode("utf-16-be")}, "is UTF-16BE, .*iconv -f UTF-16BE -t UTF-8"),
        ({"valid": "你好 世界\n".encode("utf-16-le")}, "is UTF-16LE, .*iconv -f UTF-16LE -t UTF-8"),
        (
            {"valid": b"a b\0c\n" + b"a b" * 99},
            "valid.txt is not text: it contains NUL characters$",
        ),
        ({"valid": b"\xff\0\0\0\0" * 99}, "valid.txt is not text: it contains NUL characters$"),
        ({"train": "a b\n"}, "'c' is not in the training text, which has no <unk>"),
    ],
)
def test_texts_that_make_no_corpus_are_refused_in_one_line(tmp_path, altered, said):
    folder = write_texts(tmp_path / "mytext", **altered)
    with pytest.raises(CorpusError, match=said) as error:
        load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_the_command_that_is_offered_makes_utf_8_of_it(tmp_path, encoding):
    text = "el café\nla niña\n"
    folder = write_texts(tmp_path / "mytext", train=text.encode(encoding), valid="el", test="la")
    with pytest.raises(CorpusError) as error:
        load(folder)
    subprocess.run(str(error.value).split(", with ")[1], shell=True, check=True, cwd=folder)
    assert load(folder).words == ("<eos>", "café", "el", "la", "niña")


class Block(str):
    """A block of a text that counts the characters before it that are copied to join it."""

    copied = 0

    def replace(self, *arguments):
        return Block(str.replace(self, *arguments))

    def split(self, *arguments):
        return [Block(word) for word in str.split(self, *arguments)]

    def __radd__(self, before):
        Block.copied += len(before)
        return Block(str.__add__(before, self))


def test_a_word_over_many_blocks_is_not_copied_with_each(tmp_path, monkeypatch):
    """Else the time grows with the square of its length: a minute for 20 MB."""
    blocks, word = corpus._blocks, "x" * 5000
    monkeypatch.setattr(corpus, "BLOCK", 5)
    monkeypatch.setattr(corpus, "_blocks", lambda file: map(Block, blocks(file)))
    (tmp_path / "train.txt").write_text(f"a {word} b\n")
    words = [word for block in corpus.read_words(tmp_path / "train.txt") for word in block]
    assert words == ["a", word, "b", "<eos>"]
    assert Block.copied < 2 * len(word)


def test_a_text_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    folder = write_texts(tmp_path / "mytext", valid=None)
    (tmp_path / "mytext" / "valid.txt").mkdir()
    with pytest.raises(CorpusError, match="valid.txt can't be read: Is a directory$"):
        load(folder)

    def too_much(*_):
        raise MemoryError

    monkeypatch.setattr(corpora, "from_words", too_much)
    with pytest.raises(CorpusError, match="mytext needs more memory than there is$"):
        load(folder)


def test_a_folder_of_no_user_is_named():
    with pytest.raises(SettingError, match="corpus = '~nosuch/text': ~nosuch is not a user"):
        load("~nosuch/text")


def test_the_command_that_is_offered_makes_room_for_unseen_words(tmp_path):
    folder = write_texts(tmp_path / "mytext", train="a  rare b\n\na b\n")
    with pytest.raises(CorpusError) as error:
        load(folder)
    subprocess.run(str(error.value).split(", with ")[1], shell=True, check=True, cwd=folder)
    loaded = load(folder)
    assert loaded.text(loaded["train"].tolist()) == "a <unk> b <eos> <eos> a b <eos>"


@pytest.mark.parametrize(
    ("name", "own", "likely"),
    [
        ("ptbb", "mytext", ": did you mean 'ptb'?"),
        ("embeded", "mytext", ": did you mean 'embedded'?"),
        ("mytxt", "mytext", ": did you mean 'mytext'?"),
        ("../here/mytxt", "../here/mytext", ": did you mean '../here/mytext'?"),
        ("xyz", "mytext", ""),
    ],
)
def test_unknown_corpus_is_refused_with_a_suggestion(tmp_path, monkeypatch, name, own, likely):
    write_texts(tmp_path / "here" / "mytext")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(SettingError) as error:
        load(name)
    said = f"corpus = {name!r} is none of ptb, embedded, {own} and no folder"
    assert str(error.value) == said + likely


def check(corpus: str):
    return pu.check({"cell": "gru", "dropout": 0.3, "corpus": corpus, "epochs": None}, ())


def test_a_folder_is_recorded_as_seen_from_the_repository(tmp_path, monkeypatch):
    """However it is typed, so that a run's name does not depend on where its notebook ran."""
    root = tmp_path / "repository"
    full = write_texts(root / "texts" / "mytext")
    (root / "notebooks").mkdir()
    for module in (corpora, paths):
        monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.chdir(root / "notebooks")
    settings = {check(typed) for typed in (full, "../texts/mytext", "texts/mytext")}
    assert [setting.corpus for setting in settings] == [os.path.join("texts", "mytext")]
    outside = write_texts(tmp_path / "other")
    assert check("../../other").corpus == outside
    assert check("ptb").corpus == "ptb"


def test_one_name_for_two_folders_is_refused(tmp_path, monkeypatch):
    write_texts(tmp_path / "mytext")
    write_texts(tmp_path / "notebooks" / "mytext")
    monkeypatch.setattr(corpora, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path / "notebooks")
    with pytest.raises(SettingError, match="'mytext' is .* as well as .*: rename one of them$"):
        load("mytext")
    assert load("../notebooks/mytext").words  # from the root it is no folder


def test_runs_on_own_texts_are_a_study_of_the_folders_name(tmp_path):
    setting = check(write_texts(tmp_path / "mytext"))
    assert pu.run_folder(setting, None) == ROOT / "runs" / "mytext" / setting.name


def test_text_too_short_for_an_epoch_is_refused_before_there_is_a_run(tmp_path, tiny_setting):
    loaded = load(write_texts(tmp_path / "mytext"))  # 8 tokens, of which an epoch may skip 3
    with pytest.raises(CorpusError, match="8 tokens from offset 3 .* it can be 4 at most"):
        train(tiny_setting(batch_size=5), loaded, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert train(tiny_setting(batch_size=4), loaded, tmp_path / "run")["status"] == "finished"
