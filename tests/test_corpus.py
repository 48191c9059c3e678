"""ptb.corpus: windows leave out nothing they should not; Penn Treebank is found and verified."""

import hashlib
import io
import os
import socket
import subprocess
import tarfile
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

import ptb_utils as pu
from ptb import corpus, display
from ptb.corpus import CorpusError, find_penn_treebank, load, penn_treebank, windows
from ptb.runs import ROOT
from ptb.setting import SettingError
from ptb.training import train

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
        ({"train": "a b\n"}, "'c' is not in the training text, which has no <unk>"),
    ],
)
def test_texts_that_make_no_corpus_are_refused_in_one_line(tmp_path, altered, said):
    folder = write_texts(tmp_path / "mytext", **altered)
    with pytest.raises(CorpusError, match=said) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_the_command_that_is_offered_makes_room_for_unseen_words(tmp_path):
    folder = write_texts(tmp_path / "mytext", train="a  rare b\n\na b\n")
    with pytest.raises(CorpusError) as error:
        load(folder)
    subprocess.run(str(error.value).split(", with ")[1], shell=True, check=True, cwd=folder)
    loaded = load(folder)
    assert loaded.text(loaded["train"].tolist()) == "a <unk> b <eos> <eos> a b <eos>"


@pytest.mark.parametrize(
    ("name", "likely"),
    [
        ("ptbb", "did you mean 'ptb'?"),
        ("embeded", "did you mean 'embedded'?"),
        ("mytxt", "did you mean 'mytext'?"),
        ("../here/mytxt", "did you mean '../here/mytext'?"),
        ("xyz", "it can be 'ptb', 'embedded', 'mytext'"),
    ],
)
def test_unknown_corpus_is_refused_with_a_suggestion(tmp_path, monkeypatch, name, likely):
    write_texts(tmp_path / "here" / "mytext")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(SettingError) as error:
        load(name)
    assert str(error.value) == f"corpus = {name!r} is none of ptb, embedded and no folder: {likely}"


def check(corpus: str):
    return pu.check({"cell": "gru", "dropout": 0.3, "corpus": corpus, "epochs": None}, ())


def test_a_folder_is_recorded_as_seen_from_the_repository(tmp_path, monkeypatch):
    """However it is typed, so that a run's name does not depend on where its notebook ran."""
    root = tmp_path / "repository"
    full = write_texts(root / "texts" / "mytext")
    (root / "notebooks").mkdir()
    for module in (corpus, display):
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
    monkeypatch.setattr(corpus, "ROOT", tmp_path)
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


# ---------------------------------------------------------------- Penn Treebank itself
@pytest.fixture
def penn(ptb_folder, monkeypatch):
    monkeypatch.setenv("PTB_DATA", str(ptb_folder))
    return penn_treebank()


def test_penn_treebank_has_its_counts_and_vocabulary(penn):
    counts = {split: len(ids) for split, ids in penn.splits.items()}
    assert counts == {"train": 929_589, "valid": 73_760, "test": 82_430}
    assert len(set(penn.words)) == len(penn.words) == 10_000
    assert {"<eos>", "<unk>", "N"} <= set(penn.words[:10])


def test_penn_treebank_has_a_sentence_end_for_each_line(penn, ptb_folder):
    for split, ids in penn.splits.items():
        lines = (ptb_folder / f"ptb.{split}.txt").read_text().splitlines()
        assert int((ids == penn.index["<eos>"]).sum()) == len(lines)
        assert penn.text(ids[: len(lines[0].split()) + 1].tolist()) == lines[0].strip() + " <eos>"


def test_vocabulary_is_ordered_by_frequency_in_training(penn):
    counts = torch.bincount(penn["train"], minlength=10_000)
    assert (counts[1:] <= counts[:-1]).all()
    assert counts[-1] > 0


# ---------------------------------------------------------------- three small files in its place
TEXTS = {
    "ptb.train.txt": b" a b c \n a b \n",
    "ptb.valid.txt": b" a c \n",
    "ptb.test.txt": b" b b a \n",
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A world where Penn Treebank is three tiny files, not here yet, and no network is."""
    monkeypatch.delenv("PTB_DATA", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(corpus, "SHA256", {name: sha256(text) for name, text in TEXTS.items()})
    monkeypatch.setattr(corpus, "TOKENS", {"train": 7, "valid": 3, "test": 4})
    monkeypatch.setattr(corpus, "TYPES", 4)
    nowhere = f"http://127.0.0.1:{closed_port()}/"
    monkeypatch.setattr(corpus, "MIRRORS", (nowhere + "one/", nowhere + "two/"))
    monkeypatch.setattr(corpus, "ARCHIVE", nowhere + "simple-examples.tgz")
    monkeypatch.setattr(corpus, "DATA", tmp_path / "data" / "ptb")
    return tmp_path / "data" / "ptb"


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def put_files(folder, **altered):
    folder.mkdir(parents=True)
    for name, text in TEXTS.items():
        (folder / name).write_bytes(altered.get(name.split(".")[1], text))
    return folder


def assert_whole(folder):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == TEXTS


def load_fresh():
    return penn_treebank.__wrapped__()


def test_files_in_the_data_folder_are_read(data):
    put_files(data)
    loaded = load_fresh()
    assert loaded.words == ("<eos>", "a", "b", "c")  # by frequency, then by the alphabet
    assert loaded["test"].tolist() == [2, 2, 1, 0]
    assert loaded.index["c"] == 3


def test_folder_named_in_the_environment_comes_first(data, tmp_path, monkeypatch):
    put_files(data, train=b"something else")
    monkeypatch.setenv("PTB_DATA", str(put_files(tmp_path / "mine")))
    assert find_penn_treebank() == tmp_path / "mine"


def test_altered_file_is_named(data):
    put_files(data, valid=b" a b \n")
    with pytest.raises(CorpusError, match="ptb.valid.txt is not Penn Treebank's") as error:
        find_penn_treebank()
    assert f"not {corpus.SHA256['ptb.valid.txt'][:12]}…" in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_counts_are_refused(data, monkeypatch):
    put_files(data)
    monkeypatch.setattr(corpus, "TYPES", 10_000)
    with pytest.raises(CorpusError, match="4 types"):
        load_fresh()


def test_named_folder_without_the_files_is_said_in_one_line(data, tmp_path, monkeypatch):
    (put_files(tmp_path / "mine") / "ptb.test.txt").unlink()
    monkeypatch.setenv("PTB_DATA", str(tmp_path / "mine"))
    with pytest.raises(
        CorpusError, match="PTB_DATA names .*mine, but ptb.test.txt is not"
    ) as error:
        find_penn_treebank()
    assert "\n" not in str(error.value)


def test_no_network_and_no_files_says_what_to_put_where(data):
    with pytest.raises(CorpusError) as error:
        find_penn_treebank()
    line = str(error.value)
    assert "\n" not in line
    assert [part for part in (*TEXTS, str(data), "PTB_DATA") if part not in line] == []
    assert not data.exists() or list(data.iterdir()) == []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        cut = len(content or b"") // 2 if self.path in self.server.cut else None
        self.wfile.write((content or b"")[:cut])

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def server(data, monkeypatch):
    """A web server on this machine that the mirrors one/ and two/ and the archive point at."""
    served = HTTPServer(("127.0.0.1", 0), Handler)
    served.files, served.asked, served.cut = {}, [], set()
    threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}).start()
    base = f"http://127.0.0.1:{served.server_port}"
    monkeypatch.setattr(corpus, "MIRRORS", (f"{base}/one/", f"{base}/two/"))
    monkeypatch.setattr(corpus, "ARCHIVE", f"{base}/simple-examples.tgz")
    yield served
    served.shutdown()
    served.server_close()


def on_mirror(mirror: str, **altered) -> dict[str, bytes]:
    return {f"/{mirror}/{name}": altered.get(name.split(".")[1], t) for name, t in TEXTS.items()}


def archive(**altered) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in {**TEXTS, "README": b"not wanted"}.items():
            content = altered.get(name.split(".")[-2], text) if "." in name else text
            member = tarfile.TarInfo(f"./simple-examples/data/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_files_are_fetched_from_the_first_mirror_alone(server, data):
    server.files = on_mirror("one") | on_mirror("two")
    assert find_penn_treebank() == data
    assert_whole(data)
    assert server.asked == list(on_mirror("one"))


def test_files_fetched_once_are_not_fetched_again(server, data):
    server.files = on_mirror("one")
    find_penn_treebank()
    server.asked.clear()
    find_penn_treebank()
    assert server.asked == []


def test_second_mirror_serves_where_the_first_has_nothing(server, data):
    server.files = on_mirror("two")
    assert len(load_fresh()["train"]) == 7
    assert_whole(data)


def test_second_mirror_serves_where_the_first_has_something_else(server, data):
    server.files = on_mirror("one", valid=b"<html>not found</html>") | on_mirror("two")
    find_penn_treebank()
    assert_whole(data)


def test_second_mirror_serves_where_the_first_is_down(server, data, monkeypatch):
    down = f"http://127.0.0.1:{closed_port()}/one/"
    monkeypatch.setattr(corpus, "MIRRORS", (down, corpus.MIRRORS[1]))
    server.files = on_mirror("two")
    find_penn_treebank()
    assert_whole(data)


def test_second_mirror_serves_where_the_first_is_cut_off(server, data):
    server.files, server.cut = on_mirror("one") | on_mirror("two"), {"/one/ptb.valid.txt"}
    find_penn_treebank()
    assert_whole(data)
    assert server.asked[:3] == ["/one/ptb.train.txt", "/one/ptb.valid.txt", "/two/ptb.valid.txt"]


def test_cut_connections_leave_no_half_file_behind(server, data):
    server.files = on_mirror("one") | on_mirror("two") | {"/simple-examples.tgz": archive()}
    server.cut = set(server.files)
    with pytest.raises(CorpusError, match="could not be fetched"):
        find_penn_treebank()
    assert list(data.iterdir()) == []
    server.cut = set()
    find_penn_treebank()
    assert_whole(data)


def test_a_proxys_page_in_place_of_every_file_is_not_kept(server, data):
    page = b"<html>sign in first</html>"
    paths = [*on_mirror("one"), *on_mirror("two"), "/simple-examples.tgz"]
    server.files = dict.fromkeys(paths, page)
    with pytest.raises(CorpusError, match="could not be fetched"):
        find_penn_treebank()
    assert list(data.iterdir()) == []


def test_missing_file_alone_is_fetched(server, data):
    (put_files(data) / "ptb.valid.txt").unlink()
    server.files = on_mirror("one")
    find_penn_treebank()
    assert_whole(data)
    assert server.asked == ["/one/ptb.valid.txt"]


def test_archive_serves_where_no_mirror_does(server, data):
    server.files = {"/simple-examples.tgz": archive()}
    find_penn_treebank()
    assert_whole(data)


def test_wrong_files_everywhere_leave_none_of_them_behind(server, data):
    wrong = {"test": b"something else"}
    server.files = on_mirror("one", **wrong) | {"/simple-examples.tgz": archive(**wrong)}
    with pytest.raises(CorpusError, match="could not be fetched"):
        find_penn_treebank()
    assert {path.name for path in data.iterdir()} <= {"ptb.train.txt", "ptb.valid.txt"}


def test_broken_archive_is_not_kept_for_the_next_time(server, data):
    server.files = {"/simple-examples.tgz": b"<html>sign in first</html>"}
    with pytest.raises(CorpusError):
        find_penn_treebank()
    server.files = {"/simple-examples.tgz": archive()}
    find_penn_treebank()
    assert_whole(data)
