"""Images whose labels a model does not know are scored as far as they can be, and the command says how far."""

from pathlib import Path

from flows.evaluate import evaluate
from sgcldff.data.adapters import Source
from sgcldff.data.synthetic import write_dataset
from sgcldff.evaluation.report import EvalReport, UnknownLabel


def test_cells_of_unknown_types_are_scored_by_their_outlines(lab, tmp_path):
    data = write_dataset(tmp_path / "data", 6, 0, seed=33)
    table = data / "manifest.csv"
    lines = table.read_text().splitlines()
    column = lines[0].split(",").index("label")
    rows = [line.split(",") for line in lines[1:]]
    for row in rows[:4]:
        row[column] = "blast"
    table.write_text("\n".join([lines[0], *(",".join(row) for row in rows)]))
    done = evaluate([Source("table", str(data))], lab.workspace, "models:/sgcldff@champion", lab.settings)
    assert done.unknown_labels == (UnknownLabel("blast", 4),)
    assert done.skipped == ()
    report = EvalReport.open(Path(done.folder))
    assert (report.pooled.images, report.pooled.typed, report.pooled.outlined) == (6, 2, 6)
    assert "4 images labelled blast" in (Path(done.folder) / "report.md").read_text()
