"""Score new images, texts or vectors with trained runs, and write every score and the chosen labels."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semilearn_bbam.commands import NOWHERE
from semilearn_bbam.errors import UserError
from semilearn_bbam.util.signals import INTERRUPTED as STOPPED
from semilearn_bbam.util.signals import interruptible

if TYPE_CHECKING:
    from semilearn_bbam.data.inputs import Inputs
    from semilearn_bbam.trained.ensemble import Ensemble
    from semilearn_bbam.trained.prediction_files import Row
    from semilearn_bbam.trained.predictions import Shards
    from semilearn_bbam.util.distributed import World

OPTIONS = NOWHERE
INTERRUPTED = "interrupted; the same command goes on where it stopped"
MISTAKE = 2  # exit code
POOL = "pool"
LOOKED_AT = 5  # ids that are looked at
SCORED = ("prior", "tuned")  # protocols, besides miss_<alpha>, whose thresholds are of scores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The runs, the items, and the file to write."""
    parser.add_argument(
        "folders", nargs="+", metavar="RUN", help="run folders that training wrote; of several the mean score is taken"
    )
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="items of the kind that the run reads: a folder of images or one image; a text file, one text per line; a "
        "manifest of images or texts; an .npz (key test_x or x) or .npy with vectors [N,D]; or the word pool: the "
        "unlabelled items of the run",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="the .csv, .jsonl or .parquet to write")
    parser.add_argument(
        "--threshold",
        default="",
        metavar="T",
        help="which labels are chosen: prior, tuned or miss_ALPHA (after calibrate), or a number (default: prior, or "
        "none with --top_k)",
    )
    parser.add_argument("--top_k", type=int, default=0, metavar="K", help="at most the K highest labels of an item")
    parser.add_argument(
        "--calibrated", action="store_true", help="write probabilities instead of scores (after calibrate)"
    )
    parser.add_argument(
        "--append", action="store_true", help="keep the rows of FILE, and add those of items that are not in it"
    )
    parser.add_argument("--column", default="", metavar="NAME", help="column of a manifest that holds the items")
    parser.add_argument(
        "--data_dir",
        default="",
        metavar="FOLDER",
        help="folder of a manifest's images (default: that of the manifest); of pool: where the data are now",
    )
    parser.add_argument(
        "--batch_size", type=int, default=0, metavar="N", help="items at a time (default: as in training)"
    )
    parser.add_argument("--shard_size", type=int, default=0, metavar="N", help="items between two saves")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"), help="where to compute")


def run(args: argparse.Namespace, options: Sequence[str]) -> int:
    """0; 1 for items that cannot be read, whose rows say why. UserError if nothing can be predicted or written."""
    shared = int(os.environ.get("WORLD_SIZE", "1")) > 1  # among the processes of torchrun
    if not shared:
        check(args)  # before the imports
    from semilearn_bbam.trained.predictions import PATIENCE
    from semilearn_bbam.util.distributed import World

    with interruptible(), contextlib.ExitStack() as stack:
        if shared and os.environ["RANK"] != "0":  # one process speaks for all
            stack.enter_context(contextlib.redirect_stderr(stack.enter_context(open(os.devnull, "w"))))
        world = World.init("cpu", PATIENCE)
        stack.callback(world.destroy)
        try:
            with world.connected("start the same command again: it goes on"):
                return predict(args, world)
        except UserError:
            if world.is_main:
                raise
            return MISTAKE
        except KeyboardInterrupt:
            if world.is_main:
                raise
            return STOPPED


def check(args: argparse.Namespace) -> None:
    """UserError for arguments with which nothing can be predicted or written."""
    path = Path(args.input)
    for name in ("batch_size", "top_k", "shard_size"):
        if getattr(args, name) < 0:
            raise UserError(f"--{name} must be at least 1, not {getattr(args, name)}")
    if args.input == POOL:
        if path.exists():
            raise UserError(f"'{POOL}' is the pool of the run, and also a path here; write ./{POOL} for the path")
    elif not path.exists():
        raise UserError(f"'{path}' does not exist; check the path")
    check_writable(Path(args.out))


def predict(args: argparse.Namespace, world: World) -> int:
    """Read, score and write; returns and raises as `run`.

    Processes that share the work score shards each, and the main one writes.
    """
    from semilearn_bbam.trained.prediction_files import write_predictions
    from semilearn_bbam.trained.predictions import score_shards

    out, folders, counts = Path(args.out), args.folders, {"items": 0, "labels": 0, "bad": 0}
    with world.failing_together():
        model = loaded(args)
        thresholds, of_scores = chosen_thresholds(model, args)
        inputs, skipped, shards = prepared(model, args)
        if world.is_main:
            with writing(out):
                shards.open()
            before = shards.count_kept(len(inputs))
    with world.failing_together(), writing(out):
        shards.check()
        score_shards(model, inputs, shards, calibrated=args.calibrated, batch_size=args.batch_size, world=world)
    inputs.inspected[:] = [one for part in world.all_gather_objects(inputs.inspected) for one in part]
    with world.failing_together(), writing(out):
        if world.is_main:
            rows = rows_of(model, inputs, shards, thresholds, of_scores, args.top_k, counts)
            write_predictions(out, model.label_names, rows, append=args.append)
    code = 1 if world.all_gather_objects(counts)[0]["bad"] else 0
    if not world.is_main:
        return code
    shards.delete()
    if shards.restarted:
        print(f"scores of another command for {out} were deleted", file=sys.stderr)
    for note in inputs.image_notes(model.settings.image_range):
        print(note, file=sys.stderr)
    parts = [f"{counts['items']} items, {counts['labels'] / max(counts['items'], 1):.2f} labels per item"]
    parts += [f"{before} scored before it was stopped"] if before else []
    parts += [f"{skipped} in it already"] if args.append else []
    parts += [f"mean of {len(folders)} runs"] if len(folders) > 1 else []
    parts += [f"encoded by {' and '.join(model.encoders)}"] if model.encoders else []
    print(f"wrote {out}: {', '.join(parts)}")
    if counts["bad"]:
        print(f"{counts['bad']} bad item(s) have no scores; the column problem says why", file=sys.stderr)
    return code


def loaded(args: argparse.Namespace) -> Ensemble:
    """The runs as one model."""
    from semilearn_bbam.runs.folder import RESULTS
    from semilearn_bbam.trained.ensemble import load_runs
    from semilearn_bbam.trained.prediction_files import check_suffix

    check(args)
    check_suffix(Path(args.out))
    model = load_runs(args.folders, device=args.device)
    for folder in args.folders:
        if not (Path(folder) / RESULTS).is_file():
            print(f"'{folder}' has not ended: its latest weights are used", file=sys.stderr)
    return model


def prepared(model: Ensemble, args: argparse.Namespace) -> tuple[Inputs, int, Shards]:
    """The items to score, how many the file has already, and where scores are kept."""
    from semilearn_bbam.trained.predictions import SHARD, Shards, identity_of

    out = Path(args.out)
    inputs = inputs_of(model, args)
    for note in inputs.notes:
        print(note, file=sys.stderr)
    inputs, skipped = without_known(inputs, out, model.label_names) if args.append else (inputs, 0)
    identity = identity_of([Path(folder) for folder in args.folders], inputs, calibrated=args.calibrated)
    return inputs, skipped, Shards(out, identity, args.shard_size or SHARD[model.kind])


@contextlib.contextmanager
def writing(out: Path) -> Iterator[None]:
    """UserError within where the file, or what is kept next to it, cannot be written."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--out: '{out}' cannot be written ({reason}); name another file") from error


def chosen_thresholds(model: Ensemble, args: argparse.Namespace) -> tuple[Any, bool]:
    """The thresholds [K] or number of the chosen labels, None for none; and whether they are of scores."""
    if args.calibrated and model.calibration is None:
        raise UserError("--calibrated: not every run has probabilities; make them with semilearn-bbam calibrate RUN")
    protocol = args.threshold or ("" if args.top_k else "prior")
    if not protocol:
        return None, True
    if protocol in model.thresholds and protocol != "0.5":
        return model.thresholds[protocol], True
    try:
        number = float(protocol)
    except ValueError:
        known = ", ".join(model.thresholds)
        cure = "; make tuned and miss_ALPHA with semilearn-bbam calibrate RUN" if "tuned" not in known else ""
        if "prior" not in model.thresholds:
            cure = "; a run that has not ended has no other: continue it with --resume, or give a number"
        raise UserError(f"--threshold: {protocol!r} is neither a number nor one of {known}{cure}") from None
    if not 0 <= number <= 1:
        raise UserError(f"--threshold must lie between 0 and 1, not {number:g}")
    return number, not args.calibrated


def inputs_of(model: Ensemble, args: argparse.Namespace) -> Inputs:
    """The items to score."""
    from semilearn_bbam.data.inputs import loaded_inputs, read_inputs
    from semilearn_bbam.trained.run_data import load_run_data, same_pool

    if args.input != POOL:
        return read_inputs(Path(args.input), model.kind, model.settings, column=args.column, data_dir=args.data_dir)
    pools = [load_run_data(folder, data_dir=args.data_dir) for folder in args.folders]
    same_pool(pools)
    data = pools[0]
    if not len(data.split.unlabeled):
        raise UserError(f"'{args.folders[0]}' has no pool: all its items are labelled; give a file or a folder")
    return loaded_inputs(data.pool, data.pool_ids, data.source.kind, data.source.fingerprint + data.split.digest)


def without_known(inputs: Inputs, out: Path, label_names: Sequence[str]) -> tuple[Inputs, int]:
    """The items whose ids are not in the file, and how many are."""
    from semilearn_bbam.trained.prediction_files import ids_in

    if not out.is_file():
        return inputs, 0
    known = ids_in(out, label_names)
    if inputs.kind != "image" and all(name.isdecimal() and name in known for name in inputs.ids[:LOOKED_AT]):
        print(f"items go by their numbers here; those whose number is in '{out}' are taken as known", file=sys.stderr)
    rows = [row for row, name in enumerate(inputs.ids) if name not in known]
    unusable = [problem for problem in inputs.unusable if problem.item not in known]
    return dataclasses.replace(inputs.select(rows), unusable=unusable), len(inputs) - len(rows)


def rows_of(
    model: Ensemble,
    inputs: Inputs,
    shards: Shards,
    thresholds: Any,
    of_scores: bool,
    top_k: int,
    counts: dict[str, int],
) -> Iterator[Row]:
    """A row per item, and per row of a manifest that names none; what was written is counted."""
    from semilearn_bbam.trained.ensemble import decide
    from semilearn_bbam.trained.prediction_files import Row
    from semilearn_bbam.trained.predictions import problem_text, read_shards

    names = model.label_names
    for shard in read_shards(shards, len(inputs)):
        values = shard.scores if shard.probabilities is None else shard.probabilities
        chosen = decide(shard.scores if of_scores else values, thresholds, top_k, by=values)
        for row, (item, decided) in enumerate(zip(values.tolist(), chosen, strict=True), start=shard.start):
            problem = shard.problems.get(row, "")
            labels = [] if problem else [names[k] for k in decided.nonzero()[0]]
            counts["bad" if problem else "items"] += 1
            counts["labels"] += len(labels)
            yield Row(inputs.ids[row], () if problem else item, labels, problem)
    for unusable in inputs.unusable:
        counts["bad"] += 1
        yield Row(unusable.item, (), (), problem_text(unusable))


def check_writable(out: Path) -> None:
    """UserError unless a file can be written there, so that this is known before the work."""
    folder = out.parent
    while not folder.exists():
        folder = folder.parent
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--out: '{out}' cannot be written; name a file in a folder that you can write to")
