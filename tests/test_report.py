from __future__ import annotations

from semilearn_bbam.report import results_table


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
