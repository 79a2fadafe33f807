"""One file per command of `semilearn-bbam`, which `semilearn_bbam/__main__.py` lists.

A command is a module with a docstring, which its help shows, and

- `add_arguments(parser)`: its own arguments
- `run(chosen, options) -> int`: the work and its exit code; UserError for a mistake that the user can fix
- `OPTIONS`: where settings of `train` may be given: NOWHERE, ANYWHERE, AFTER `--`, or ALONE, where all arguments are
  such settings and `run` shows the help
- `INTERRUPTED`: what to say after Ctrl-C

What takes long to import is imported by these functions, not by the module.
"""

from __future__ import annotations

NOWHERE, ANYWHERE, AFTER, ALONE = "nowhere", "anywhere", "after --", "alone"
