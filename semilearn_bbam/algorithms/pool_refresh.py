"""The refresh of BBAM: from the outputs of its nets on all rows to the state of its pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from semilearn_bbam.algorithms.pool_state import PoolState, columns_of, refreshed
from semilearn_bbam.algorithms.released import ReleasedFaults
from semilearn_bbam.angles import AngleStatistics
from semilearn_bbam.config import Conflict, Option
from semilearn_bbam.engine.stored_features import StoredFeatures
from semilearn_bbam.engine.taught import has_teacher
from semilearn_bbam.errors import UserError
from semilearn_bbam.nets.ensemble import label_cosines
from semilearn_bbam.pool_blocks import Features, Rows, label_blocks
from semilearn_bbam.pseudo_labels import (
    class_counts,
    confidence_weights,
    pseudo_label_unknown,
    smoothed_scores,
)
from semilearn_bbam.selection import kth_highest

Columns = Callable[[int, int], Tensor]  # of scores, as `estimate_pool` takes them
LARGE = 2.0  # GiB of features and scores of a pool from which pool_storage: auto writes them to a file
POOL_STORAGE = Option(
    "pool_storage",
    str,
    "auto",
    "features of the pool at a refresh: in memory, or as float16 in a file of the run folder; auto: from 2 GiB on",
    choices=("auto", "memory", "disk"),
)
CURES = {"teacher": "set teacher: none", "score_map": "set score_map: raw", "unknown_labels": "set it to mask"}
# Options that compare rows of the pool with each other, or keep a number for each of its cells.
WHOLE_POOL = ("neighbours", "confidence_weights", "reproduce_released_leak")


class RefreshedPool(ReleasedFaults):
    """Base class with the refresh: pseudo-labels, prototypes, angles, negatives and statistics, block by block.

    Several processes keep the features of their own rows and exchange histograms, counts and sums (`pool_blocks`).
    Where an option compares rows with each other, all of them get the outputs of all rows instead.
    """

    pool_state: PoolState | None = None
    stored = False  # whether features of the pool are written to a file

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        yield from super().conflicts(values, kind)
        if values["pool_storage"] != "disk":
            return
        for key in WHOLE_POOL:
            if values[key]:
                yield ("pool_storage", key), f"pool_storage: disk cannot give {key} the whole pool; leave {key} out"
        if has_teacher(values, kind):
            yield ("pool_storage", "teacher"), "pool_storage: disk cannot give a teacher the pool; set teacher: none"
        if values["score_map"] == "average":
            yield ("pool_storage", "score_map"), "pool_storage: disk ranks raw cosines; set score_map: raw"

    def set_up(self) -> None:
        self.stored = self.stores_pool()
        super().set_up()

    def stores_pool(self) -> bool:
        """Whether features are written to a file; UserError where an option needs more of a large pool than that."""
        args, size = self.args, len(self.dataset_dict["pool_ulb"])
        gibibytes = 4 * size * (self.model.num_features + 2 * args.num_classes) / 2**30
        if args.pool_storage == "memory" or (args.pool_storage == "auto" and gibibytes < LARGE):
            return False
        blocked = {key: bool(getattr(args, key)) for key in WHOLE_POOL}
        blocked |= {"teacher": has_teacher(vars(args), self.kind), "score_map": args.score_map == "average"}
        blocked |= {"unknown_labels": self.unknown_lb is not None}
        if keys := [key for key, value in blocked.items() if value]:
            raise UserError(
                f"{keys[0]}: needs the whole pool in memory, {gibibytes:.1f} GiB for {size} rows; set pool_storage: "
                f"memory if that fits, or {CURES.get(keys[0], f'leave {keys[0]} out')}"
            )
        self.print_fn(
            f"pool_storage: the features of {size} rows are read into a file of the run folder, as float16 "
            f"({2 * size * self.model.num_features / 2**30:.2f} GiB)"
        )
        return True

    @property
    def pseudo_targets(self) -> Tensor | None:
        """Pseudo-labels of the pool, [N_u,K], for the diagnostic hook."""
        return None if self.pool_state is None else self.pool_state.pseudo.whole.float()

    @property
    def statistics(self) -> AngleStatistics:
        """Those of the last refresh."""
        return self.pool_state.statistics

    # ------------------------------------------------------------------ the refresh

    def refresh(self) -> dict[str, float]:
        """Update pseudo-labels, negatives and statistics from the current nets; returns the row to log."""
        args = self.args
        generator = torch.Generator().manual_seed(args.seed * 1_000_003 + self.epoch)
        if self.unknown_lb is not None or self.teacher is not None or any(getattr(args, key) for key in WHOLE_POOL):
            return self.refresh_whole(generator)
        ranked_net = self.model if args.refresh_model == "student" else self.ema_model
        net = self.ema_model if args.refresh_model == "ema" else self.model
        pool_lb = self.dataset_dict["pool_lb"]
        own = self.world.shard(len(pool_lb))
        rows = slice(own.start, own.stop)
        known = None if pool_lb.known is None else pool_lb.known[rows].to(self.device)
        with ExitStack() as files:
            labeled = Rows(self.read("pool_lb", net, gather=False)["feat"])
            scores, pool = self.scores_and_features(ranked_net, net, files)
            self.pool_state = refreshed(
                scores, labeled, pool, pool_lb.targets[rows].to(self.device), self.positive_rate, args, generator,
                self.pool_state, num_pool=len(self.dataset_dict["pool_ulb"]), valid_lb=known, known_lb=known,
                shards=self.world,
            )  # fmt: skip
        return self.pool_state.summary()

    def scores_and_features(self, ranked_net: nn.Module, net: nn.Module, files: ExitStack) -> tuple[Columns, Features]:
        """The cosines of one net and the features of another, often the same, for the rows of this process."""
        if self.stored:
            ranked = files.enter_context(self.store("pool_ulb", ranked_net))
            pool = ranked if net is ranked_net else files.enter_context(self.store("pool_ulb", net))
            return cosine_columns(ranked_net, ranked), pool
        outputs = self.read("pool_ulb", ranked_net, gather=False)
        features = outputs["feat"] if net is ranked_net else self.read("pool_ulb", net, gather=False)["feat"]
        return columns_of(outputs["cosine"]), Rows(features)

    def store(self, name: str, net: nn.Module) -> StoredFeatures:
        """The features of this process's rows of a pool, in a file of the run folder."""
        which = "ema" if net is self.ema_model else "student"
        path = self.folder.path / f".features_{name}_{which}_{self.world.rank}"
        return StoredFeatures.write(path, self.batch_outputs(name, net, only_feat=True), self.device)

    def refresh_whole(self, generator: torch.Generator) -> dict[str, float]:
        """The refresh where options need outputs of all rows: every process has them, and does the same."""
        args = self.args
        labeled, unlabeled = {}, {}
        if args.refresh_model in ("ema", "both"):
            labeled, unlabeled = self.read("pool_lb"), self.read("pool_ulb")
        ranked, ranked_lb = unlabeled, labeled
        if args.refresh_model in ("student", "both"):
            labeled, unlabeled = self.read("pool_lb", self.model), self.read("pool_ulb", self.model)
        if not ranked:
            ranked, ranked_lb = unlabeled, labeled
        scores = self.leaked(ranked["cosine"], self.pool_state.statistics if self.pool_state else None)
        if args.neighbours:
            scores = smoothed_scores(scores, unlabeled["feat"], args.neighbours)
        self.fuse(ranked)
        pool_lb = self.dataset_dict["pool_lb"]
        targets_lb = pool_lb.targets.to(self.device)
        known_lb = valid_lb = None if pool_lb.known is None else pool_lb.known.to(self.device)
        ranked_scores, weights_lb = self.taught(scores), None
        if self.unknown_lb is not None:
            known_lb = ~self.unknown_lb
            targets_lb, valid_lb, weights_lb = self.fill_unknown(scores, ranked, ranked_lb, targets_lb)
        state = refreshed(
            columns_of(ranked_scores), Rows(labeled["feat"]), Rows(unlabeled["feat"]), targets_lb, self.positive_rate,
            args, generator, self.pool_state, num_pool=len(scores), valid_lb=valid_lb, known_lb=known_lb,
        )  # fmt: skip
        weights = confidence_weights(ranked_scores, self.positive_rate) if args.confidence_weights else None
        filled = None if self.unknown_lb is None else targets_lb
        self.pool_state = state = replace(state, weights=weights, weights_lb=weights_lb, targets_lb=filled)
        if filled is None:
            return state.summary()
        return {**state.summary(), "labeled_pseudo_positive_rate": float(filled[self.unknown_lb].mean())}

    def fill_unknown(
        self, pool_scores: Tensor, unlabeled: Mapping[str, Tensor], labeled: Mapping[str, Tensor], targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Targets of labelled rows with pseudo-labels by rank in the pool, their mask, and their weights if used."""
        args, scores = self.args, labeled["cosine"]
        if args.neighbours:
            joined = [torch.cat([labeled[key], unlabeled[key]]) for key in ("cosine", "feat")]
            scores = smoothed_scores(*joined, args.neighbours)[: len(scores)]
        shares = {"positive_share": args.positive_share, "negative_share": args.negative_share}
        filled, mask = pseudo_label_unknown(scores, pool_scores, targets, self.unknown_lb, self.positive_rate, **shares)
        if not args.confidence_weights:
            return filled, mask, None
        weights = confidence_weights(scores, self.positive_rate, pool_scores)
        return filled, mask, torch.where(self.unknown_lb, weights, 1.0)

    def prior_thresholds(self) -> Tensor:
        if not self.stored:
            return super().prior_thresholds()
        counts = class_counts(self.positive_rate.double(), 1.0, len(self.dataset_dict["prior"])).to(self.device)
        with self.store("prior", self.ema_model) as features:
            columns = cosine_columns(self.ema_model, features)
            cosine = torch.cat([
                kth_highest(columns(start, stop), counts[start:stop], self.world)
                for start, stop in label_blocks(len(self.dataset_dict["prior"]) // self.world.world_size, len(counts))
            ]).unsqueeze(0)  # fmt: skip
        outputs = {"cosine": cosine, "logits": self.args.scale * (cosine - self.args.margin)}
        return torch.where(counts > 0, self.scores(outputs)[0], float("inf")).cpu()

    # ------------------------------------------------------------------ state

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), **({} if self.pool_state is None else self.pool_state.state_dict())}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.pool_state = PoolState.from_state_dict(state, self.device) if "pseudo" in state else None


def cosine_columns(net: nn.Module, features: StoredFeatures) -> Columns:
    """The cosines of a net from its features in a file, label-major, [l - k, n] for the labels k to l."""

    @torch.no_grad()
    def columns(start: int, stop: int) -> Tensor:
        cosine = torch.empty(stop - start, len(features), device=features.device)
        first = 0
        for chunk in features.chunks():
            cosine[:, first : first + len(chunk)] = label_cosines(net, chunk, start, stop).T
            first += len(chunk)
        return cosine

    return columns
