"""What a text net can take: how many tokens, and which ids."""

from __future__ import annotations

import re
from collections.abc import Collection

from torch import nn

from semilearn_bbam.errors import NetError

# How tables of learned or fixed positions are called: position_embeddings, embed_positions, wpe.
POSITIONS = re.compile(r"(?<!relative_)(?:^|_)positions?(?:_|$)|^wpe$")


def most_tokens(net: nn.Module) -> int | None:
    """The longest text that the net has positions for, in tokens; None where they have no end, as in T5.

    Some tables have an offset: RoBERTa's first position comes after the number of its padding token, BART's after two.
    """
    lengths = []
    for name, module in net.named_modules():
        if POSITIONS.search(name.rpartition(".")[2]) and hasattr(module, "padding_idx"):  # a table, of any class
            rows, padding = len(module.weight), module.padding_idx
            offset = int(getattr(module, "offset", 0 if padding is None else padding + 1))
            lengths.append(rows - offset if offset < rows else rows)
    if lengths:  # without a table the number in the config is no limit
        configs = (getattr(module, "config", None) for module in net.modules())
        declared = (getattr(config, "max_position_embeddings", None) for config in configs)
        lengths += [length for length in declared if length]
    return min(lengths, default=None)


def vocabulary_size(net: nn.Module) -> int | None:
    """The number of token ids that the net has an embedding for; None where it has no table with a row for each."""
    for module in net.modules():
        # Nets that hash their ids have no size of the vocabulary.
        if hasattr(module, "get_input_embeddings") and getattr(module.config, "vocab_size", None):
            table = module.get_input_embeddings()
            return int(table.num_embeddings) if isinstance(table, nn.Embedding) else None
    return None


def check_vocabulary(name: str, net: nn.Module, ids: Collection[int]) -> None:
    """NetError if the net, which is called `name`, has no embedding for one of these token ids."""
    size = vocabulary_size(net)
    if size is not None and max(ids) >= size:
        outside = sum(number >= size for number in ids)
        raise NetError(
            f"net: {name} has embeddings for {size} tokens, and {outside} of the {len(ids)} of its tokenizer are not "
            f"among them; give the tokenizer and the weights of the same net"
        )
