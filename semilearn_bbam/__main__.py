"""The command line: `semilearn-bbam <command>`, the same as `python -m semilearn_bbam <command>`."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from semilearn_bbam import __version__
from semilearn_bbam.commands import AFTER, ALONE, ANYWHERE, NOWHERE
from semilearn_bbam.errors import Interrupted, UserError, did_you_mean
from semilearn_bbam.util.signals import INTERRUPTED, exit_at_signals, exiting_at_signals

PROGRAM = "semilearn-bbam"
# Name -> module in semilearn_bbam/commands, help.
COMMANDS = {
    "train": ("train", "train one method: --c FILE [--key VALUE ...]"),
    "data": ("data", "look at a dataset: check, browse, convert or encode --c FILE; issues RUN doubts labels"),
    "prepare": ("prepare", "extract, check and count a released dataset: NAME --data_dir FOLDER"),
    "predict": ("predict", "score new images, texts or vectors with trained runs: RUN .. INPUT --out FILE"),
    "evaluate": ("evaluate", "all metrics of a run on its test part or on other labelled data: RUN [--data FILE]"),
    "calibrate": ("calibrate", "tune thresholds, calibrate probabilities and make label sets of a run: RUN"),
    "suggest": ("suggest", "choose what to label next: RUN, DATA or --c FILE, --n N --out FILE"),
    "compare": ("compare", "run a grid of methods, datasets and seeds, and write its tables: FILE"),
    "tune": ("tune", "search settings of methods with an equal number of trials: FILE"),
    "profile": ("profile", "measure where a step and a refresh spend their time: --c FILE [--key VALUE ...]"),
    "plot": ("plot", "draw the figures that run folders hold data for: RUN .. --out FOLDER"),
    "report": ("report", "write one HTML page about one or several runs: RUN .. --out FILE"),
    "export": ("export", "write a run for other programs, as weights, ONNX or a hub folder: RUN"),
    "doctor": ("doctor", "print versions and known conflicts, and how to fix them"),
}
EXIT_CODES = "exit codes: 0 done, 1 bad items found, 2 a mistake that the user can fix, 130 interrupted"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of a command line; returns its exit code."""
    print_anything()
    if argv is None:  # as a program
        exit_at_signals(f"{PROGRAM}: interrupted before it started")  # `call` takes over
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] in (["-h"], ["--help"]):
        print(overview())
        return 0
    if words[:1] == ["--version"]:
        print(f"{PROGRAM} {__version__}")
        return 0
    if not words:
        print(overview(), file=sys.stderr)
        return 2
    if words[0] not in COMMANDS:
        hint = did_you_mean(words[0], COMMANDS) or f"known are {', '.join(COMMANDS)}"
        print(f"{PROGRAM}: the command {words[0]!r} is unknown; {hint}", file=sys.stderr)
        return 2
    return call(words[0], words[1:])


def print_anything() -> None:
    """Let stdout and stderr write what their encoding lacks as \\u escapes, so that no name ends a command."""
    for stream in (sys.stdout, sys.stderr):
        # Where the locale is C, Python gives back the bytes of an odd file name; that stays.
        bytes_pass = stream.errors == "surrogateescape" and (stream.encoding or "").lower().replace("-", "") == "utf8"
        if isinstance(stream, io.TextIOWrapper) and not bytes_pass:
            stream.reconfigure(errors="backslashreplace")


def overview() -> str:
    """The help of the program: a line for every command."""
    lines = "\n".join(f"  {name:<9} {words}" for name, (_, words) in COMMANDS.items())
    usage = f"usage: {PROGRAM} COMMAND ...\n\nSemi-supervised multi-label learning for USB.\n\ncommands:\n{lines}\n\n"
    return f"{usage}{PROGRAM} COMMAND --help shows the arguments of a command, --version the version.\n{EXIT_CODES}"


def call(name: str, argv: Sequence[str], prog: str = "") -> int:
    """Run one command with its arguments; `prog` is the start of its messages if an older script calls it."""
    print_anything()
    prog = prog or f"{PROGRAM} {name}"
    message = "interrupted"
    try:
        module = import_module(f"semilearn_bbam.commands.{COMMANDS[name][0]}")
        message = module.INTERRUPTED
        parser = argparse.ArgumentParser(
            prog=prog, description=module.__doc__, allow_abbrev=False, add_help=module.OPTIONS != ALONE
        )
        if module.OPTIONS in (ANYWHERE, AFTER):
            position = " after --" if module.OPTIONS == AFTER else ""
            parser.epilog = f"Further options{position} are those of {PROGRAM} train --help."
        with exiting_at_signals(f"{prog}: {message}"):  # until the command is `interruptible`, after its imports
            module.add_arguments(parser)
            return int(module.run(*_split(parser, argv, module.OPTIONS)))
    except Interrupted as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return INTERRUPTED
    except UserError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{prog}: {message}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails when it flushes at exit
        return 141


def _split(parser: argparse.ArgumentParser, argv: Sequence[str], where: str) -> tuple[argparse.Namespace, list[str]]:
    """The arguments of a command, and the settings of a run among its words."""
    words = list(argv)
    if where == ALONE:
        return argparse.Namespace(), words
    end = words.index("--") if where != NOWHERE and "--" in words else len(words)
    args, rest = parser.parse_known_args(words[:end])
    if rest and where != ANYWHERE:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args, [*rest, *words[end + 1 :]]


if __name__ == "__main__":
    sys.exit(main())
