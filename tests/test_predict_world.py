"""`predict` in several processes, as torchrun starts it: the file of one process, and one message where it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semilearn_bbam.__main__ import main
from semilearn_bbam.trained.predictions import Shards
from semilearn_bbam.util.signals import INTERRUPTED
from tests.conftest import FEATURES
from tests.processes import LIMIT, ROOT, fork_two, statuses_of


@pytest.fixture
def trained(train: Callable[..., Any], features_dir: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """`trained(*words)`: a command that scores 23 vectors, one of them not finite, in shards of 5."""
    _, folder = train(FEATURES, data_dir=features_dir, label_ratio=0.2)
    with np.load(next(features_dir.glob("*.npz"))) as archive:
        rows = np.array(archive["test_x"][:23], np.float32)
    rows[7, 0] = np.nan
    np.save(tmp_path / "in.npy", rows)
    return lambda out, *words: ["predict", str(folder), str(tmp_path / "in.npy"), "--out", str(tmp_path / out),
                                "--shard_size", "5", *words]  # fmt: skip


def predict(argv: list[str], log: Path, patch: Callable[[], object] | None) -> int:
    """The command in this process, its output in a file."""
    if patch is not None:
        patch()
    sys.stdout = sys.stderr = open(log, "w", buffering=1)  # until the process ends
    return main(argv)


def in_two(argv: list[str], folder: Path, patch: Callable[[], object] | None = None) -> tuple[list[int], list[str]]:
    """Exit codes and output of the two processes."""
    logs = [folder / f"log{rank}.txt" for rank in range(2)]
    statuses = statuses_of(fork_two([partial(predict, argv, log, patch) for log in logs]))
    return statuses, [log.read_text() for log in logs]


def stop_second_rank_at(start: int) -> None:
    """The second process is interrupted before it writes this shard; the first sees it end."""
    write = Shards.write

    def stopping(self: Shards, shard: Any) -> None:
        if os.environ["RANK"] == "1" and shard.start == start:
            raise KeyboardInterrupt
        write(self, shard)

    pytest.MonkeyPatch().setattr(Shards, "write", stopping)


def fill_disk_of_second_rank() -> None:
    write = Shards.write

    def full(self: Shards, shard: Any) -> None:
        if os.environ["RANK"] == "1":
            raise OSError(28, "No space left on device")
        write(self, shard)

    pytest.MonkeyPatch().setattr(Shards, "write", full)


@pytest.mark.parametrize("words", [(), ("--top_k", "2"), ("--append",)])
def test_the_file_is_that_of_one_process(words: tuple[str, ...], trained: Any, tmp_path: Path) -> None:
    expected = 1  # for the row that is not finite
    if words == ("--append",):
        np.save(tmp_path / "few.npy", np.load(tmp_path / "in.npy")[:9])
        command = trained("one.csv")
        assert main([*command[:2], str(tmp_path / "few.npy"), *command[3:]]) == 1
        (tmp_path / "two.csv").write_bytes((tmp_path / "one.csv").read_bytes())
        expected = 0  # it is in the file already
    assert main(trained("one.csv", *words)) == expected
    statuses, (first, second) = in_two(trained("two.csv", *words), tmp_path)
    assert statuses == [expected] * 2, first + second
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert first.count("wrote ") == 1
    assert second == ""
    assert not list(tmp_path.glob(".*.shards"))


def test_it_goes_on_where_it_was_stopped(trained: Any, tmp_path: Path) -> None:
    """In one process or two; the shards that are there are not scored again."""
    assert main(trained("one.csv")) == 1
    statuses, (first, _) = in_two(trained("two.csv"), tmp_path, partial(stop_second_rank_at, 15))
    assert statuses == [2, INTERRUPTED]
    assert "lost the connection to another rank" in first
    assert "it goes on" in first
    kept = sorted(path.name for path in (tmp_path / ".two.csv.shards").glob("*.npz"))
    assert [int(name[:12]) for name in kept] == [0, 5, 10, 20]
    statuses, (first, _) = in_two(trained("two.csv"), tmp_path)
    assert statuses == [1, 1]
    assert "18 scored before it was stopped" in first
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    in_two(trained("three.csv"), tmp_path, partial(stop_second_rank_at, 5))
    assert main(trained("three.csv")) == 1
    assert (tmp_path / "three.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_an_error_of_one_process_ends_all_with_one_sentence(trained: Any, tmp_path: Path) -> None:
    statuses, (first, second) = in_two(trained("a.csv"), tmp_path, fill_disk_of_second_rank)
    assert statuses == [2, 2]
    assert first.strip().splitlines()[-1].endswith("cannot be written (No space left on device); name another file")
    assert "Traceback" not in first + second
    assert second == ""
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(("--threshold", "often"), "--threshold: 'often'"), (("--top_k", "-1"), "--top_k must be at least 1")],
)
def test_a_mistake_in_the_command_is_named_once(
    words: tuple[str, ...], sentence: str, trained: Any, tmp_path: Path
) -> None:
    statuses, (first, second) = in_two(trained("a.csv", *words), tmp_path)
    assert statuses == [2, 2]
    assert first.count(sentence) == 1
    assert second == ""
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.slow
def test_torchrun_writes_the_same_file(trained: Any, tmp_path: Path) -> None:
    assert main(trained("one.csv")) == 1
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*launcher, "-m", "semilearn_bbam", *trained("two.csv")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert ended.returncode == 1  # of torchrun, since a row is not finite
    assert ended.stdout.count("wrote ") == 1
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
