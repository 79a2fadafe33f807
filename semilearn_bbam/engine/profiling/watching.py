"""Parts of a method's work measured from outside: its net, loaders, hooks and functions are wrapped for a while."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from inspect import isclass
from types import FunctionType
from typing import Any

import torch
from semilearn.core.hooks import Hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from semilearn_bbam.engine.base import MultiLabelAlgorithm
from semilearn_bbam.engine.dry_run import synchronize
from semilearn_bbam.engine.fitted import FittedAlgorithm
from semilearn_bbam.engine.profiling.clock import Clock, Seconds

WAIT, MOVE, FORWARD, LOSS, BACKWARD = "waiting for data", "to the device", "forward", "loss", "backward"
OPTIMISER, EMA, HOOKS = "optimiser", "EMA", "other hooks"
DEVICE, READING, REST = "waiting for the device", "collecting outputs", "rest"
FORWARD_PASS = (WAIT, MOVE, FORWARD, READING)  # of a refresh
HOOK_PARTS = {"ParamUpdateHook": OPTIMISER, "EMAHook": EMA}
HOOKED = ("before_train_epoch", "before_train_step", "after_train_step")
# Functions that a refresh or a fit calls: what those of a module do, and of some by name; "": only the named ones.
MODULES = {
    "pseudo_labels": "pseudo-labels",
    "thresholds": "thresholds",
    "neighbours": "neighbours",
    "angles": "angles",
    "negatives": "negatives",
    "angle_statistics": "statistics",
    "bits": "packing of bits",
    "pool_blocks": "",
    "kernels": "kernels",
    "kernel_graph": "graph",
    "logistic": "logistic regression",
    "model_selection": "choice of settings",
    "engine.taught": "kernel teacher",
    "engine.hooks.nonfinite": "",
}
FUNCTIONS = {
    "label_prototypes": "prototypes",
    "prototype_cosines": "prototypes",
    "smoothed_scores": "neighbours",
    "check_finite": "check for NaN",
}
DETAILS = tuple(dict.fromkeys(filter(None, [*MODULES.values(), *FUNCTIONS.values()])))
PARTS = (WAIT, MOVE, FORWARD, LOSS, BACKWARD, OPTIMISER, EMA, HOOKS, READING, *DETAILS, DEVICE, REST)
PACKAGE = "semilearn_bbam"
WARM_UP_STEP, STEP, REFRESH, FIT, PREDICTION = "warm-up step", "step", "refresh", "fit", "prediction"
SECTIONS = (STEP, REFRESH, FIT, PREDICTION)  # ranges of a trace


class Enough(Exception):
    """As many steps as were asked for are done."""


class Watch:
    """Runs a method's own loop for some steps, with what each of them and each refresh took.

    steps, refreshes: seconds by part of those that count, the rest of a section under the section's name; batches: how
    many a pass over pools has read, after which `at_batch` is called; read: how many the last refresh or fit read;
    `at_step` is called before each step.
    """

    def __init__(self, algorithm: MultiLabelAlgorithm, clock: Clock) -> None:
        self.algorithm, self.clock = algorithm, clock
        self.step_name = FIT if isinstance(algorithm, FittedAlgorithm) else STEP
        self.steps: list[Seconds] = []
        self.refreshes: list[Seconds] = []
        self.batches = self.read = 0
        self.at_batch: Callable[[], object] = lambda: None
        self.at_step: Callable[[], object] = lambda: None

    def train(self, epoch: int, steps: int, skipped: int = 0) -> None:
        """Train from the start of an epoch by the method's own loop until this many steps are measured.

        skipped: steps at the start that do not count; nor does the first one of another pass over the loaders.
        """
        algorithm = self.algorithm
        algorithm.start_epoch, algorithm.it = epoch, algorithm.plan.first_step(epoch)
        self.batches = 0
        self.steps.clear()
        self.clock.enter(REST)
        try:
            with contextlib.ExitStack() as stack, contextlib.suppress(Enough):
                replace(stack, algorithm, "batches", self.counted(algorithm.batches, steps, skipped))
                algorithm.train()
        finally:
            self.clock.leave()
            algorithm.hooks_dict["LoggingHook"].bar.close()

    def counted(self, load: Callable[[int], Iterator[Any]], steps: int, skipped: int) -> Callable[[int], Iterator[Any]]:
        """The loop's `batches`, which measures each step from the wait for its batch on and raises `Enough`."""
        clock = self.clock

        def batches(epoch: int) -> Iterator[Any]:
            to_skip = skipped
            while True:  # an epoch may have fewer steps
                iterator = load(epoch)
                while True:
                    self.at_step()
                    clock.lap()
                    clock.enter(self.step_name)
                    batch = clock.timed(WAIT, next)(iterator, None)
                    if batch is None:
                        clock.leave()
                        break
                    yield batch
                    if self.step_name == FIT:
                        self.read = self.batches
                    self.wait_for_device()
                    clock.leave()
                    lap = clock.lap()
                    if to_skip:
                        to_skip -= 1
                    else:
                        self.steps.append(lap)
                    if len(self.steps) == steps:
                        raise Enough
                to_skip = max(to_skip, min(skipped, 1))

        return batches

    def wait_for_device(self) -> None:
        """So that what a part has begun on a GPU does not count in the next section."""
        if self.algorithm.device.type == "cuda":
            self.clock.timed(DEVICE, synchronize)(self.algorithm.device)

    def refresh(self) -> None:
        """Another refresh."""
        self.clock.enter(REST)
        try:
            self.algorithm.hooks_dict["RefreshHook"].before_train_epoch(self.algorithm)
        finally:
            self.clock.leave()

    def predict(self, name: str) -> Seconds:
        """Predict a pool; seconds by part."""
        self.clock.lap()
        self.clock.enter(PREDICTION)
        try:
            self.algorithm.predict(name)
            self.wait_for_device()
        finally:
            self.clock.leave()
        return self.clock.lap()

    def measured_refresh(self, refresh: Callable[[Any], None]) -> Callable[[Any], None]:
        """The hook's method that refreshes, with what it took in `refreshes`."""

        def before_train_epoch(algorithm: Any) -> None:
            if algorithm.plan.in_warmup(algorithm.epoch):
                return
            self.batches = 0
            before = self.clock.count()
            self.clock.enter(REFRESH)
            refresh(algorithm)
            self.read = self.batches
            self.wait_for_device()
            self.clock.leave()
            self.refreshes.append(self.clock.count() - before)

        return before_train_epoch


@contextlib.contextmanager
def watching(algorithm: MultiLabelAlgorithm, clock: Clock) -> Iterator[Watch]:
    """Everything is wrapped within, and as it was afterwards."""
    watch = Watch(algorithm, clock)
    with contextlib.ExitStack() as stack:
        fitted = watch.step_name == FIT
        for net in {id(net): net for net in (algorithm.model, algorithm.ema_model)}.values():
            # Around a compiled call too, which hooks of the net would be compiled into.
            call = net._compiled_call_impl or net._call_impl
            replace(stack, net, "_compiled_call_impl", clock.timed(FORWARD, call))
        for name, part in (("train_step", REST if fitted else LOSS), ("warmup_step", LOSS), ("process_batch", MOVE)):
            replace(stack, algorithm, name, clock.timed(part, getattr(algorithm, name)))
        replace(stack, algorithm, "to_device", clock.timed(MOVE, algorithm.to_device))
        replace(stack, algorithm, "read", clock.timed(READING, algorithm.read))
        replace(stack, algorithm, "print_fn", lambda *lines: None)
        replace(stack, algorithm.results_hook.memory, "start", lambda device: None)  # a run has one start
        for name in ("backward", "grad"):
            replace(stack, torch.autograd, name, clock.timed(BACKWARD, getattr(torch.autograd, name)))
        _wrap_hooks(stack, algorithm, clock, watch)
        _wrap_optimisers(stack, clock)
        _wrap_loaders(stack, algorithm, clock, watch)
        _wrap_functions(stack, clock)
        yield watch


def replace(stack: contextlib.ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute of an object, a class or a module until the stack is closed."""
    if name in vars(owner):
        stack.callback(setattr, owner, name, vars(owner)[name])
    else:
        stack.callback(delattr, owner, name)
    setattr(owner, name, value)


def _wrap_hooks(stack: contextlib.ExitStack, algorithm: MultiLabelAlgorithm, clock: Clock, watch: Watch) -> None:
    for name, hook in algorithm.hooks_dict.items():
        for method in HOOKED:
            if getattr(type(hook), method, None) is getattr(Hook, method):  # it does nothing there
                continue
            measured = clock.timed(HOOK_PARTS.get(name, HOOKS), getattr(hook, method))
            if name == "RefreshHook":
                measured = watch.measured_refresh(getattr(hook, method))
            replace(stack, hook, method, measured)


def _wrap_optimisers(stack: contextlib.ExitStack, clock: Clock) -> None:
    """Those of a method's phases too."""
    began: list[bool] = []

    def before(optimizer: Any, args: Any, kwargs: Any) -> None:
        began.append(bool(clock.open))
        if clock.open:
            clock.enter(OPTIMISER)

    def after(optimizer: Any, args: Any, kwargs: Any) -> None:
        if began.pop():
            clock.leave()

    stack.callback(register_optimizer_step_pre_hook(before).remove)
    stack.callback(register_optimizer_step_post_hook(after).remove)


class _Loader:
    """A loader that reads a pool in order, whose batches are waited for by the clock."""

    def __init__(self, loader: Any, clock: Clock, watch: Watch) -> None:
        self.loader, self.clock, self.watch = loader, clock, watch

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Any]:
        iterator = self.clock.timed(WAIT, iter)(self.loader)
        while (batch := self.clock.timed(WAIT, next)(iterator, None)) is not None:
            self.watch.batches += 1
            self.watch.at_batch()
            yield batch


def _wrap_loaders(stack: contextlib.ExitStack, algorithm: MultiLabelAlgorithm, clock: Clock, watch: Watch) -> None:
    for name in algorithm.reading_loaders():
        loader = algorithm.loader_dict[name]
        stack.callback(algorithm.loader_dict.__setitem__, name, loader)
        algorithm.loader_dict[name] = _Loader(loader, clock, watch)


def _wrap_functions(stack: contextlib.ExitStack, clock: Clock) -> None:
    """Functions of `MODULES`, wherever they were imported to; not where the net or its loss calls them."""
    within = (REST, REFRESH, FIT, *DETAILS)
    measured: dict[Any, Callable[..., Any]] = {}

    def wrapped(function: Any, module: str) -> Callable[..., Any] | None:
        part = FUNCTIONS.get(function.__name__) or MODULES[module.removeprefix(f"{PACKAGE}.")]
        return measured.setdefault(function, clock.timed(part, function, within)) if part else None

    modules = [module for name, module in list(sys.modules.items()) if name.startswith(f"{PACKAGE}.")]
    names = {f"{PACKAGE}.{name}" for name in MODULES}
    owners = [
        *modules,
        *(
            item
            for module in modules
            if module.__name__ in names
            for item in vars(module).values()
            if isclass(item)
            and item.__module__ == module.__name__
            and MODULES[module.__name__.removeprefix(f"{PACKAGE}.")]
        ),
    ]
    for owner in owners:
        for name, value in list(vars(owner).items()):
            function = value.__func__ if isinstance(value, classmethod) else value
            if not isinstance(function, FunctionType) or function.__module__ not in names or name.startswith("__"):
                continue
            replacement = wrapped(function, function.__module__)
            if replacement is not None:
                replace(stack, owner, name, classmethod(replacement) if isinstance(value, classmethod) else replacement)
