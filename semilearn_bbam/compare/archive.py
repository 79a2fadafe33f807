"""The archive of the runs of a comparison: one file of settings and results, small enough for a repository."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path

from semilearn_bbam.compare.paths import without_folders
from semilearn_bbam.runs.folder import CONFIG, METRICS, RESULTS
from semilearn_bbam.runs.reader import Run

# Settings that name folders of the machine of the run, which mean nothing elsewhere.
FOLDERS = ("data_dir:", "save_dir:")


def write_archive(runs: Mapping[Path, bool], path: Path, leave_out: Collection[str] = ()) -> None:
    """Put `config.yaml`, without the machine's folders, and `results.json` of run folders into a `.tar.xz` file.

    runs: run folders, and whether it has a learning curve, whose `metrics.jsonl` is included too; leave_out: keys of
    the results to leave out. Extracted into the folder of run folders, the files replace the runs: a grid resumes from
    them, on any machine. The same runs give the same archive.
    """
    with lzma.open(path, "wb", preset=9) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for folder in sorted(runs):
            lines = (folder / CONFIG).read_text(encoding="utf-8").splitlines(keepends=True)
            config = without_folders("".join(line for line in lines if not line.startswith(FOLDERS)))
            published = {key: value for key, value in Run.read(folder).results.items() if key not in leave_out}
            files = {CONFIG: config.encode(), RESULTS: json.dumps(published, indent=2).encode()}
            if runs[folder]:
                files[METRICS] = (folder / METRICS).read_bytes()
            for name, content in files.items():
                member = tarfile.TarInfo(f"{folder.name}/{name}")  # no owner and no time
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
