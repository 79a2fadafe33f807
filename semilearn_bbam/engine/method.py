"""The part of a method that does not depend on a run: its options, conflicts, net and scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from semilearn_bbam.config import Conflict, Option, Settings
from semilearn_bbam.engine.accumulation import accumulation_conflicts
from semilearn_bbam.engine.schedule import unlabeled_batch_size
from semilearn_bbam.errors import UserError
from semilearn_bbam.nets import check_input, get_net_builder
from semilearn_bbam.nets.ensemble import BranchedNet
from semilearn_bbam.nets.heads import DEFAULT_PROJECTIONS, CosinePrototypes, LinearLabels, MultiLabelNet


class Method:
    """The part of a method that needs neither data nor a run."""

    options: ClassVar[tuple[Option, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = {}  # replace those of options of a parent class
    # Defaults that depend on the kind of the data: kind -> option -> value; the default of such an option is None.
    kind_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    uses_unlabeled: ClassVar[bool] = True
    # Whether the loss of a batch is the mean of those of its equal parts, and a step changes nothing but the weights.
    accumulates: ClassVar[bool] = False
    head: ClassVar[str] = "cosine"  # or "linear", which the option `head` can change to cosine, or "own"

    @classmethod
    def own_options(cls) -> tuple[Option, ...]:
        """The options of the method, with its defaults."""
        return cls.with_defaults(cls.options)

    @classmethod
    def with_defaults(cls, options: Iterable[Option]) -> tuple[Option, ...]:
        """These options with the defaults of this class."""
        by_kind = {key: None for values in cls.kind_defaults.values() for key in values}
        defaults = {**by_kind, **cls.defaults}
        return tuple(replace(option, default=defaults.get(option.name, option.default)) for option in options)

    @classmethod
    def with_kind_defaults(cls, settings: Settings, kind: str) -> Settings:
        """The settings, with the defaults of this kind of data where an option is None."""
        values = cls.kind_defaults.get(kind, {})
        return settings.having(**{key: value for key, value in values.items() if getattr(settings, key) is None})

    @classmethod
    def effective(cls, values: Mapping[str, Any], kind: str) -> dict[str, Any]:
        """All options with what `auto` means on data of this kind, so that equal runs compare equal."""
        return dict(values)

    @classmethod
    def conflicts(cls, values: Mapping[str, Any], kind: str) -> Iterator[Conflict]:
        """Settings that the method does not support: their keys, and why.

        values: all options; kind: of the data, "image", "text" or "features", or "" if it is not known yet.
        """
        if cls.head == "cosine" and values["head"] == "linear":
            yield ("head",), f"head cannot be linear, for {values['algorithm']} measures angles; leave it at auto"
        if cls.head == "own" and values["head"] != "auto":
            name, head = values["algorithm"], values["head"]
            yield ("head",), f"head cannot be {head}, for {name} has its own; leave it at auto"

        yield from accumulation_conflicts(values, cls.accumulates, cls.batch_sizes(values))

    @classmethod
    def batch_sizes(cls, values: Mapping[str, Any]) -> dict[str, int]:
        """Rows of the training batches, by the option that sets them."""
        sizes = {}
        if values["warmup_epochs"] or not cls.uses_unlabeled:
            sizes["warmup_batch_size"] = values["warmup_batch_size"]
        if cls.uses_unlabeled and values["warmup_epochs"] < values["epoch"]:
            sizes["batch_size"] = values["batch_size"]
            name = "ulb_batch_size" if values["ulb_batch_size"] else "uratio"
            sizes[name] = unlabeled_batch_size(values)
        return sizes

    @classmethod
    def check(cls, settings: Settings, kind: str) -> None:
        """UserError if the net does not read such data, or settings conflict; the command line checks this before."""
        check_input(settings.net, kind)
        for _, sentence in cls.conflicts(vars(cls.with_kind_defaults(settings, kind)), kind):
            raise UserError(sentence)

    # ------------------------------------------------------------------ the net

    @classmethod
    def build_net(cls, settings: Settings, kind: str, in_features: int, num_classes: int) -> nn.Module:
        """The configured backbone under projection and head; see `building.build_net`."""
        spec = DEFAULT_PROJECTIONS[kind] if settings.projection == "auto" else settings.projection
        backbone = get_net_builder(settings)(in_features, num_classes, pretrained=settings.use_pretrain)
        build_head = partial(cls.build_head, settings, num_classes=num_classes)
        net = MultiLabelNet(backbone, spec, build_head)
        branches = getattr(settings, "num_branches", 1)  # an option of those methods that can use them
        return net if branches == 1 else BranchedNet(net, spec, build_head, branches)

    @classmethod
    def build_head(cls, settings: Settings, in_features: int, *, num_classes: int) -> nn.Module:
        """The last layer over features of this width; a method with its own head overrides this."""
        if (cls.head if settings.head == "auto" else settings.head) == "cosine":
            return CosinePrototypes(in_features, num_classes, scale=settings.scale, margin=settings.margin)
        return LinearLabels(in_features, num_classes)

    @classmethod
    def finished_net(cls, net: nn.Module, settings: Settings, state: Mapping[str, Any]) -> nn.Module:
        """The net that scores new items, from that of the run with its weights; state: as of `get_state`."""
        return net

    # ------------------------------------------------------------------ its scores

    @classmethod
    def scores_of(cls, outputs: Mapping[str, Tensor], settings: Settings, state: Mapping[str, Any]) -> Tensor:
        """Scores [N,K] in [0, 1] from a net's outputs; 0.5 is the training boundary. state: as of `get_state`."""
        return outputs["logits"].sigmoid()

    @classmethod
    def scoring_state(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """What `finished_net` and `scores_of` read of a state, as of `get_state`; nothing else leaves a run folder."""
        return {}
