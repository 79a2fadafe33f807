from __future__ import annotations

from pathlib import Path

import pytest

from semilearn_bbam.util.files import UNFINISHED, write_atomically


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError

    (tmp_path / "a.txt").write_text("whole")
    with pytest.raises(RuntimeError):
        write_atomically(tmp_path / "a.txt", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_new_file_in_a_new_folder_has_the_usual_permissions_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain", tmp_path / "new" / "a.txt"
    plain.touch()
    write_atomically(path, lambda beside: beside.write_text("one"))
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o640)
    write_atomically(path, lambda beside: beside.write_text("two"))
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("during", ["writing", "renaming"])
def test_an_error_names_the_file_itself(tmp_path: Path, during: str) -> None:
    path = tmp_path / "a.txt"
    if during == "renaming":
        (path / "in_the_way").mkdir(parents=True)
    with pytest.raises(OSError, match=r"a\.txt") as caught:
        write_atomically(path, Path.read_text if during == "writing" else Path.touch)
    assert caught.value.filename == str(path)
    assert "tmp.txt" not in str(caught.value)
    assert caught.value.errno


def test_what_a_killed_process_leaves_can_be_recognised(tmp_path: Path) -> None:
    seen = []
    write_atomically(tmp_path / "a.npz", lambda beside: seen.append(beside.name) or beside.touch())
    assert all(Path(name).match(UNFINISHED) and name.endswith(".npz") for name in seen)
    assert not list(tmp_path.glob(UNFINISHED))
