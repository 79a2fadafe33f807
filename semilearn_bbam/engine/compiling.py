"""The option `compile`: a net's training pass and the angular losses by `torch.compile`."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.utils._triton import has_triton

from semilearn_bbam.errors import UserError
from semilearn_bbam.fused_losses import masked_terms


def can_compile(device: torch.device) -> bool:
    """Whether a C++ compiler was found, and for another device than the CPU triton."""
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return device.type == "cpu" or bool(has_triton())


def compile_training(algorithm: Any) -> None:
    """Compile the forward pass of `algorithm.model`, backward included, and its angular losses, at their first use.

    The net is compiled in place: names of its weights, checkpoints and the EMA model stay as they are. UserError where
    nothing can be compiled.
    """
    if algorithm.world.world_size > 1:
        raise UserError("compile: true does not work in several processes; set false, or start without torchrun")
    if algorithm.device.type == "mps":
        raise UserError("compile: true was made for cpu and cuda; set compile: false, or another device")
    if not can_compile(algorithm.device):
        raise UserError(
            "compile: true needs a C++ compiler, and on cuda the package triton; one was not found: install g++ or "
            "triton, or set compile: false"
        )
    # The batches of a stage have one size.
    algorithm.model.compile(dynamic=False)
    algorithm.angular_terms = torch.compile(masked_terms, dynamic=False)


def uncompiled(algorithm: Any) -> AbstractContextManager[Any]:
    """A context for passes over a pool: their batches have other sizes, and each size would be compiled."""
    return torch.compiler.set_stance("force_eager") if algorithm.args.compile else contextlib.nullcontext()
