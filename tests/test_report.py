from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from semilearn_bbam.report import draw_learning_curves, results_table


def result(algorithm: str, value: float) -> dict[str, object]:
    metrics = {"mAP": value, "one_error": 0.5, "macro_f1": value / 2, "micro_f1": 0.25}
    return {"algorithm": algorithm, "seconds": 12.4, "test": metrics, "test_prior": metrics}


def test_one_seed_is_a_number_and_several_are_mean_and_deviation() -> None:
    lines = results_table([result("bbam", 0.4), result("supervised_bam", 0.3), result("bbam", 0.6)]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:3] == ["algorithm", "seeds", "mAP"]
    assert cells[2][:3] == ["bbam", "2", "0.500 ± 0.141"]
    assert cells[3][:3] == ["supervised_bam", "1", "0.300"]
    assert cells[3][-1] == "12"
    assert len({len(line) for line in lines}) == 1


def test_learning_curves_are_drawn(tmp_path: Path) -> None:
    folders = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        rows = [{"epoch": e, "it": 10 * e, "test/mAP": 0.1 * e} for e in range(5)] + [
            {"epoch": 1, "it": 3, "vdfd_mean": 1}
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        folders.append(folder)
    picture = draw_learning_curves(folders, tmp_path / "curves.png")
    with Image.open(picture) as image:
        assert image.width > 400
        assert len(np.unique(np.asarray(image.convert("L")))) > 20  # something is drawn
