"""Scores of many items, shard by shard: kept on the disk until all are there, so that a stopped command goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from semilearn_bbam.data.dataset import Problem, take
from semilearn_bbam.data.fingerprint import compute_fingerprint, files_key
from semilearn_bbam.data.inputs import Inputs
from semilearn_bbam.data.problems import KINDS
from semilearn_bbam.runs.checkpoint import model_file
from semilearn_bbam.runs.folder import CONFIG, DECISIONS
from semilearn_bbam.trained.ensemble import Ensemble
from semilearn_bbam.util.distributed import World
from semilearn_bbam.util.files import write_atomically

SHARD = {"image": 512, "text": 512, "features": 65_536}  # items; what an interruption loses at most
PLAN = "plan.json"
PATIENCE = timedelta(days=7)  # of processes for the slowest one; one that ends is noticed at once


@dataclass(frozen=True, eq=False)
class Shard:
    """Rows `start` and on of the inputs: scores [n,K], NaN for an item that cannot be read, with its problem by row.

    `probabilities` [n,K] are None where none were asked for.
    """

    start: int
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32] | None
    problems: dict[int, str]

    @property
    def stop(self) -> int:
        return self.start + len(self.scores)


class Shards:
    """The shards of one command, in a folder next to the file that it writes.

    Those of an earlier command that was stopped are used if it had the same runs and inputs, else deleted.
    """

    def __init__(self, out: Path, identity: str, size: int) -> None:
        self.folder = out.with_name(f".{out.name}.shards")
        self.plan = json.dumps({"identity": identity, "size": size})
        self.size = size
        self.restarted = False

    def open(self) -> None:
        """Create the folder, or accept the one of a stopped command."""
        plan = self.folder / PLAN
        if self.folder.exists() and not (plan.is_file() and plan.read_text(encoding="utf-8") == self.plan):
            shutil.rmtree(self.folder)
            self.restarted = True
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(plan, lambda path: path.write_text(self.plan, encoding="utf-8"))

    def check(self) -> None:
        """OSError unless the folder is the one that another process of this command has opened."""
        plan = self.folder / PLAN
        if not (plan.is_file() and plan.read_text(encoding="utf-8") == self.plan):
            raise OSError(f"the processes do not share '{self.folder}', or have other inputs")

    def count_kept(self, count: int) -> int:
        """How many of `count` items have their scores."""
        return sum(min(self.size, count - start) for start in range(0, count, self.size) if self.has(start))

    def has(self, start: int) -> bool:
        return self._path(start).is_file()

    def write(self, shard: Shard) -> None:
        """Keep a shard."""
        arrays = {"scores": shard.scores}
        if shard.probabilities is not None:
            arrays["probabilities"] = shard.probabilities
        texts = np.array(json.dumps(shard.problems))

        def save(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, problems=texts, plan=np.array(self.plan), **arrays)

        write_atomically(self._path(shard.start), save)

    def read(self, start: int) -> Shard:
        """A shard that was kept. OSError if another command has written it since."""
        with np.load(self._path(start), allow_pickle=False) as archive:
            if str(archive["plan"]) != self.plan:
                raise OSError(f"another command writes to '{self.folder}' at the same time")
            problems = {int(row): text for row, text in json.loads(str(archive["problems"])).items()}
            probabilities = archive["probabilities"] if "probabilities" in archive.files else None
            return Shard(start, archive["scores"], probabilities, problems)

    def delete(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:012d}.npz"


def score_shards(
    model: Ensemble,
    inputs: Inputs,
    shards: Shards,
    *,
    calibrated: bool,
    batch_size: int = 0,
    world: World = World(),  # noqa: B008  # frozen
) -> None:
    """Score what is not scored yet.

    Args:
        model: one or several runs.
        inputs: N items.
        shards: where scores are kept; it is open.
        calibrated: whether probabilities are kept too.
        batch_size: items at a time; 0: `eval_batch_size` of the run.
        world: processes that share the shards: each scores one of as many that follow each other, the same in a
            command that goes on.
    """
    starts = range(world.rank * shards.size, len(inputs), world.world_size * shards.size)
    sizes = {start: min(shards.size, len(inputs) - start) for start in starts}
    missing = [start for start in starts if not shards.has(start)]
    total, left = sum(sizes.values()), sum(sizes[start] for start in missing)
    with tqdm(total=total, initial=total - left, desc="items", leave=False, dynamic_ncols=True, disable=None) as bar:
        for start in missing:
            shards.write(_score(model, inputs, start, start + sizes[start], calibrated, batch_size))
            bar.update(sizes[start])


def _score(model: Ensemble, inputs: Inputs, start: int, stop: int, calibrated: bool, batch_size: int) -> Shard:
    items, problems = inputs.checked(start, stop)
    sound = np.array([row for row in range(start, stop) if row not in problems], np.int64) - start
    shape = (stop - start, len(model.label_names))
    scores = np.full(shape, np.nan, np.float32)
    probabilities = np.full(shape, np.nan, np.float32) if calibrated else None
    if len(sound):
        chosen = items if len(sound) == stop - start else take(items, sound)
        if probabilities is not None:
            scores[sound], probabilities[sound] = model.scores_and_probabilities(chosen, batch_size or None)
        else:
            scores[sound] = model.scores(chosen, batch_size or None)
    return Shard(start, scores, probabilities, {row: problem_text(one) for row, one in problems.items()})


def read_shards(shards: Shards, count: int) -> Iterator[Shard]:
    """All shards of `count` items in order."""
    return (shards.read(start) for start in range(0, count, shards.size))


def problem_text(problem: Problem) -> str:
    """What is wrong with an item, in a few words."""
    words = KINDS[problem.kind][0].replace("(s)", "")
    return f"{words}: {problem.detail}" if problem.detail else words


def identity_of(folders: list[Path], inputs: Inputs, *, calibrated: bool) -> str:
    """What the scores of a command depend on: runs, inputs, and whether probabilities are kept."""
    weights = [str(path) for folder in folders for path in (model_file(folder), folder / CONFIG)]
    decided = [str(folder / DECISIONS) for folder in folders] if calibrated else []
    parts: list[Any] = [files_key(weights + decided), inputs.identity, str(calibrated), str(len(inputs))]
    return compute_fingerprint(parts)
