"""The commands of Slurm that submitit calls, for one machine: jobs of an array one after the other.

States are files in the folder FAKE_SLURM, which a test may write too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "sacct", "srun")


def install(folder: Path) -> Path:
    """Write the commands; gives the folder to put first in PATH."""
    (folder / "states").mkdir()
    commands = folder / "bin"
    commands.mkdir()
    for name in COMMANDS:
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
        (commands / name).chmod(0o755)
    return commands


def states() -> Path:
    return Path(os.environ["FAKE_SLURM"]) / "states"


def sbatch(script: str) -> None:
    number = 1 + len({path.name.split("_")[0] for path in states().iterdir()})
    array = re.search(r"--array=0-(\d+)", Path(script).read_text())
    names = [f"{number}_{i}" for i in range(int(array[1]) + 1)] if array else [str(number)]
    for name in names:
        (states() / name).write_text("PENDING")
    kept = states().parent / f"{number}.sh"
    kept.write_bytes(Path(script).read_bytes())
    subprocess.Popen(
        [sys.executable, __file__, "work", str(kept), *names], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    print(f"Submitted batch job {number}")


def work(script: str, *names: str) -> None:
    """Run the jobs of an array, with the variables that Slurm sets."""
    for name in names:
        number, _, index = name.partition("_")
        array = {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index} if index else {}
        environment = {**os.environ, **array, "SLURM_JOB_ID": number, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
        (states() / name).write_text("RUNNING")
        process = subprocess.Popen(["bash", script], env=environment, start_new_session=True)
        (states().parent / f"{name}.pid").write_text(str(process.pid))
        status = process.wait()
        if (states() / name).read_text() == "RUNNING":
            (states() / name).write_text("FAILED" if status else "COMPLETED")


def sacct(*words: str) -> None:
    wanted = {words[i + 1] for i, word in enumerate(words) if word == "-j"}
    print("JobID|State|NodeList")
    for path in sorted(states().iterdir()):
        if path.name.split("_")[0] in wanted:
            print(f"{path.name}|{path.read_text()}|here")


def srun(*words: str) -> None:
    job, index = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"]), os.environ.get("SLURM_ARRAY_TASK_ID")
    _, _, out, _, error, *command = words  # --unbuffered --output FILE --error FILE COMMAND
    for number, name in ((1, out), (2, error)):
        for key, value in (("%A", job), ("%a", index or ""), ("%j", job), ("%t", "0")):
            name = name.replace(key, value)
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.execvp(command[0], command)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
