"""ptb.data.penn_treebank: the files are found, fetched and verified."""

import hashlib
import io
import socket
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

from ptb.data import penn_treebank
from ptb.data.corpora import load
from ptb.errors import CorpusError, SettingError


# ---------------------------------------------------------------- Penn Treebank itself
@pytest.fixture
def penn(ptb_folder, monkeypatch):
    monkeypatch.setenv("PTB_DATA", str(ptb_folder))
    return load("ptb")


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


def test_the_nine_commonest_types_are_those_that_the_report_names(penn):
    counts = torch.bincount(penn["train"])
    assert (counts >= 10_000).sum() == 9  # the last group of its figure
    assert set(penn.words[:9]) == {"the", "of", "to", "a", "in", "and", "N", "<unk>", "<eos>"}


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


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A world where Penn Treebank is three tiny files, not here yet, and no network is."""
    monkeypatch.delenv("PTB_DATA", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(penn_treebank, "DATA", tmp_path / "data")
    hashes = {name: hashlib.sha256(text).hexdigest() for name, text in TEXTS.items()}
    alter(monkeypatch, sha256=hashes, tokens={"train": 7, "valid": 3, "test": 4}, types=4)
    serve_from(monkeypatch, f"http://127.0.0.1:{closed_port()}")
    return tmp_path / "data" / "ptb"


def alter(monkeypatch, **changes):
    altered = replace(penn_treebank.PENN_TREEBANK, **changes)
    monkeypatch.setattr(penn_treebank, "PENN_TREEBANK", altered)


def serve_from(monkeypatch, base: str):
    archive = (f"{base}/simple-examples.tgz", penn_treebank.PENN_TREEBANK.archive[1])
    alter(monkeypatch, mirrors=(f"{base}/one/", f"{base}/two/"), archive=archive)


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


def find():
    return penn_treebank.PENN_TREEBANK.find()


def load_fresh():
    return penn_treebank.PENN_TREEBANK.load()


def test_files_in_the_data_folder_are_read(data):
    put_files(data)
    loaded = load_fresh()
    assert loaded.words == ("<eos>", "a", "b", "c")  # by frequency, then by the alphabet
    assert loaded["test"].tolist() == [2, 2, 1, 0]
    assert loaded.index["c"] == 3


def test_folder_named_in_the_environment_comes_first(data, tmp_path, monkeypatch):
    put_files(data, train=b"something else")
    monkeypatch.setenv("PTB_DATA", str(put_files(tmp_path / "mine")))
    assert find() == tmp_path / "mine"


def test_a_relative_name_is_found_from_a_notebooks_folder_too(data, tmp_path, monkeypatch):
    put_files(tmp_path / "mine")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(penn_treebank, "ROOT", tmp_path)
    monkeypatch.setenv("PTB_DATA", "mine")
    for folder in (tmp_path, tmp_path / "notebooks"):
        monkeypatch.chdir(folder)
        assert find() == tmp_path / "mine"


def test_altered_file_is_named(data):
    put_files(data, valid=b" a b \n")
    with pytest.raises(CorpusError, match="ptb.valid.txt is not Penn Treebank's") as error:
        find()
    assert f"not {penn_treebank.PENN_TREEBANK.sha256['ptb.valid.txt'][:12]}…" in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_counts_are_refused(data, monkeypatch):
    put_files(data)
    alter(monkeypatch, types=10_000)
    with pytest.raises(CorpusError, match="4 types"):
        load_fresh()


def test_named_folder_without_the_files_is_said_in_one_line(data, tmp_path, monkeypatch):
    (put_files(tmp_path / "mine") / "ptb.test.txt").unlink()
    monkeypatch.setenv("PTB_DATA", str(tmp_path / "mine"))
    with pytest.raises(
        CorpusError, match="PTB_DATA names .*mine, which lacks ptb.test.txt$"
    ) as error:
        find()
    assert "\n" not in str(error.value)


def test_a_named_folder_or_file_that_cannot_be_read_is_one_line(data, tmp_path, monkeypatch):
    monkeypatch.setenv("PTB_DATA", "~nosuch/ptb")
    with pytest.raises(SettingError, match="PTB_DATA = '~nosuch/ptb': ~nosuch is not a user"):
        find()
    monkeypatch.setenv("PTB_DATA", str(tmp_path / "named"))
    for file in penn_treebank.PENN_TREEBANK.sha256:
        (tmp_path / "named" / file).mkdir(parents=True)
    with pytest.raises(CorpusError, match="ptb.train.txt can't be read: Is a directory"):
        find()


def test_no_network_and_no_files_says_what_to_put_where(data):
    with pytest.raises(CorpusError) as error:
        find()
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
    serve_from(monkeypatch, base)
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
    assert find() == data
    assert_whole(data)
    assert server.asked == list(on_mirror("one"))


def test_files_fetched_once_are_not_fetched_again(server, data):
    server.files = on_mirror("one")
    find()
    server.asked.clear()
    find()
    assert server.asked == []


def test_second_mirror_serves_where_the_first_has_nothing(server, data):
    server.files = on_mirror("two")
    assert len(load_fresh()["train"]) == 7
    assert_whole(data)


def test_second_mirror_serves_where_the_first_has_something_else(server, data):
    server.files = on_mirror("one", valid=b"<html>not found</html>") | on_mirror("two")
    find()
    assert_whole(data)


def test_second_mirror_serves_where_the_first_is_down(server, data, monkeypatch, capsys):
    down = f"http://127.0.0.1:{closed_port()}/one/"
    alter(monkeypatch, mirrors=(down, penn_treebank.PENN_TREEBANK.mirrors[1]))
    server.files = on_mirror("two")
    find()
    assert_whole(data)
    assert capsys.readouterr().out == f"nothing from {down}: no connection\n"


def test_second_mirror_serves_where_the_first_is_cut_off(server, data):
    server.files, server.cut = on_mirror("one") | on_mirror("two"), {"/one/ptb.valid.txt"}
    find()
    assert_whole(data)
    assert server.asked[:3] == ["/one/ptb.train.txt", "/one/ptb.valid.txt", "/two/ptb.valid.txt"]


def test_cut_connections_leave_no_half_file_behind(server, data):
    server.files = on_mirror("one") | on_mirror("two") | {"/simple-examples.tgz": archive()}
    server.cut = set(server.files)
    with pytest.raises(CorpusError, match="could not be fetched"):
        find()
    assert list(data.iterdir()) == []
    server.cut = set()
    find()
    assert_whole(data)


def test_a_proxys_page_in_place_of_every_file_is_not_kept(server, data):
    page = b"<html>sign in first</html>"
    paths = [*on_mirror("one"), *on_mirror("two"), "/simple-examples.tgz"]
    server.files = dict.fromkeys(paths, page)
    with pytest.raises(CorpusError, match="could not be fetched"):
        find()
    assert list(data.iterdir()) == []


def test_missing_file_alone_is_fetched(server, data):
    (put_files(data) / "ptb.valid.txt").unlink()
    server.files = on_mirror("one")
    find()
    assert_whole(data)
    assert server.asked == ["/one/ptb.valid.txt"]


def test_archive_serves_where_no_mirror_does(server, data):
    server.files = {"/simple-examples.tgz": archive()}
    find()
    assert_whole(data)


def test_wrong_files_everywhere_leave_none_of_them_behind(server, data):
    wrong = {"test": b"something else"}
    server.files = on_mirror("one", **wrong) | {"/simple-examples.tgz": archive(**wrong)}
    with pytest.raises(CorpusError, match="could not be fetched"):
        find()
    assert {path.name for path in data.iterdir()} <= {"ptb.train.txt", "ptb.valid.txt"}


def test_broken_archive_is_not_kept_for_the_next_time(server, data):
    server.files = {"/simple-examples.tgz": b"<html>sign in first</html>"}
    with pytest.raises(CorpusError):
        find()
    server.files = {"/simple-examples.tgz": archive()}
    find()
    assert_whole(data)
