"""What stays of the runs behind a comparison: an archive of settings and results, small enough for a repository."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path

from semilearn_bbam.runs.folder import CONFIG, METRICS, RESULTS

# Where the files of a run lay on the machine that made it says nothing to others.
PLACES = ("data_dir:", "save_dir:")


def write_archive(runs: Mapping[Path, bool], path: Path, leave_out: Collection[str] = ()) -> None:
    """Put `config.yaml`, without the places, and `results.json` of run folders into a `.tar.xz` file.

    runs: run folders, and whether there is a learning curve, whose `metrics.jsonl` is kept too; leave_out: keys of the
    results that nobody shall see. Extracted into the folder of run folders, the files stand for the runs: a grid goes
    on from them, on any machine. The same runs give the same archive.
    """
    with lzma.open(path, "wb", preset=9) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for folder in sorted(runs):
            lines = (folder / CONFIG).read_text(encoding="utf-8").splitlines(keepends=True)
            config = "".join(line for line in lines if not line.startswith(PLACES))
            results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
            kept = {key: value for key, value in results.items() if key not in leave_out}
            files = {CONFIG: config.encode(), RESULTS: json.dumps(kept, indent=2).encode()}
            if runs[folder]:
                files[METRICS] = (folder / METRICS).read_bytes()
            for name, content in files.items():
                member = tarfile.TarInfo(f"{folder.name}/{name}")  # no owner and no time
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
