"""ptb.paths: a path as a record has it, and as a person types it."""

import os

from ptb.paths import ROOT, from_here, relative


def test_a_record_has_a_path_within_the_repository_with_slashes(tmp_path):
    assert relative(ROOT / "data" / "mine") == "data/mine"
    assert relative(tmp_path) == str(tmp_path.resolve())


def test_a_path_on_another_drive_is_shown_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert from_here(tmp_path / "runs" / "a") == os.path.join("runs", "a")

    def other_drive(path):  # as on Windows
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    assert from_here(tmp_path / "a") == str(tmp_path / "a")
