"""What a resumed run may change: where and how it is computed, and its end, which starts another cycle."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

from semilearn_bbam.config import dump_yaml
from semilearn_bbam.errors import RunError
from semilearn_bbam.runs.folder import CONFIG, RESULTS, RunFolder
from semilearn_bbam.runs.reader import Run

# Settings in which a resumed run may differ from the run that it continues.
FREE_ON_RESUME = {
    "resume",
    "overwrite",
    "device",
    "compile",
    "num_workers",
    "num_threads",
    "num_log_iter",
    "eval_batch_size",
}
FREE_ON_RESUME |= {"num_save_iter", "on_nonfinite", "max_nonfinite"}
FREE_ON_RESUME |= {"save_dir", "save_name", "data_dir", "use_tensorboard", "use_wandb", "use_aim"}


def check_same_settings(settings: argparse.Namespace, folder: Path) -> None:
    """RunError where the settings differ from those of the run in `folder`, but for `FREE_ON_RESUME`.

    `epoch` may be larger, by epochs as long as the others.
    """
    saved, current = Run.read(folder).settings, vars(settings)
    changed = [key for key, value in saved.items() if key not in FREE_ON_RESUME and current.get(key) != value]
    if "epoch" in changed and current["epoch"] < saved["epoch"]:
        raise RunError(
            f"--resume: '{folder}' has {saved['epoch']} epochs, and --epoch {current['epoch']} is less; "
            f"give a larger number for another cycle"
        )
    if "epoch" in changed and saved.get("num_train_iter"):
        total = saved["num_train_iter"] // saved["epoch"] * current["epoch"]
        if current["num_train_iter"] != total:
            raise RunError(
                f"--resume: {current['epoch']} epochs as long as those of '{folder}' have {total} steps; "
                f"set --num_train_iter {total}"
            )
        changed = [key for key in changed if key != "num_train_iter"]
    changed = [key for key in changed if key != "epoch"]
    if changed:
        differences = ", ".join(f"{key} {saved[key]!r} -> {current.get(key)!r}" for key in changed)
        raise RunError(
            f"--resume: '{folder / CONFIG}' was made with other settings ({differences}); use the same ones or start a "
            "new run"
        )


def cycles_with(ends: list[int], done: int, epochs: int, path: Any) -> list[int]:
    """The last epochs of the cycles of a run that goes on to `epochs`, with another one where that is more.

    ends: those so far; done: complete epochs. RunError for another cycle before the last one has ended.
    """
    if epochs == ends[-1]:
        return ends
    if epochs < ends[-1] or done != ends[-1]:
        raise RunError(
            f"--resume: '{path}' has {done} of {ends[-1]} epochs; finish them with --epoch {ends[-1]}, "
            f"before another cycle up to {epochs}"
        )
    return [*ends, epochs]


def record_cycle(folder: RunFolder, settings: argparse.Namespace) -> None:
    """Write the new `epoch` to the folder of a run that goes on; its results so far get the name of theirs.

    A process that is killed here leaves a run without results, which goes on in the same way.
    """
    before = Run.read(folder.path).settings["epoch"] if folder.writes else settings.epoch
    if before == settings.epoch:
        return
    results = folder.path / RESULTS
    if results.is_file():
        try:
            os.replace(results, results.with_stem(f"{results.stem}_epoch{before}"))
        except OSError as error:
            raise RunError(f"'{results}' cannot be renamed ({error.strerror}); fix that and try again") from error
    folder.write(CONFIG, partial(dump_yaml, settings))
