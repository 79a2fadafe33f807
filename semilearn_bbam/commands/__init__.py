"""One file per command of `semilearn-bbam`, which `semilearn_bbam/__main__.py` lists.

A command is a module with a docstring, which its help shows, and

- `add_arguments(parser)`: its own arguments
- `run(args, options) -> int`: the work and its exit code; UserError for a mistake that the user can fix
- `OPTIONS`: where settings of `train` are accepted: NOWHERE, ANYWHERE, AFTER `--`, or ALONE: all arguments are such
  settings, and `run` prints the help
- `INTERRUPTED`: the message after Ctrl-C

Slow imports are in these functions, not at the top of the module.
"""

from __future__ import annotations

NOWHERE, ANYWHERE, AFTER, ALONE = "nowhere", "anywhere", "after --", "alone"
