"""`sgcldff review` as a person uses it."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import cohen_kappa_score

from sgcldff.core.parquet_file import write_table
from sgcldff.core.records import Sample
from sgcldff.results.batch import SlideSummary, write_batch
from tests.reviews import write_reviews


def test_a_review_on_the_command_line(server, run, smear, read_as, tmp_path):
    results, workspace = (
        read_as(tmp_path / "results" / "smear", smear, ["unidentified"] * len(smear.cells)).parent,
        tmp_path,
    )
    place = ("-w", workspace / "ws")
    made = run(
        "review", "make", results, "-s", smear.slide, "-s", tmp_path / "gone.svs", "-o", tmp_path / "queue", *place
    )
    assert made.code == 3
    assert "gone.svs" in made.line
    assert "review.html" in made.out
    cells = [line.split(",")[0] for line in (tmp_path / "queue" / "queue.csv").read_text().splitlines()[1:4]]
    rows = [(cells[0], "monocyte", "A"), (cells[1], "martian", "A"), (cells[2], "basophil", "")]
    answers = tmp_path / "answers.csv"
    lines = [",".join((*row, "2026-03-01T12:00:00Z")) for row in rows]
    answers.write_text("\n".join(["cell_id,label,reviewer,reviewed_at", *lines]))
    read = run("review", "read", answers, "-q", tmp_path / "queue", "--store", tmp_path / "store", *place)
    assert read.code == 3
    assert "1 answer, 1 of them new" in read.out
    assert all(f"answers.csv, row {row}: " in read.line for row in (2, 3))
    applied = run("review", "apply", results, "--store", tmp_path / "store", *place)
    assert applied.code == 0
    assert "monocyte 0 → 1" in applied.out
    assert run("review", "apply", results, "--store", tmp_path / "nowhere", *place).code == 2


def test_where_no_cell_is_unidentified_the_least_sure_ones_are_reviewed(server, run, smear, read_as, tmp_path):
    results = read_as(tmp_path / "results" / "smear", smear, [cell.label for cell in smear.cells]).parent
    path = results / "smear" / "cells.parquet"
    cells = pd.read_parquet(path)
    given = ("review", "make", results, "-s", smear.slide, "-o", tmp_path / "queue", "-w", tmp_path / "ws")
    unsure = np.linspace(0.99, 0.3, len(cells), dtype=np.float32)
    table = pq.read_table(path)
    at = table.schema.get_field_index("confidence")
    write_table(path, table.set_column(at, table.schema.field(at), [unsure]))
    made = run(*given, "--limit", 7)
    assert made.code == 0
    assert "7 cells of 1 slide to review: none is unidentified, of these the model was least sure" in made.out
    least = cells.assign(confidence=unsure).query("counted").nsmallest(7, "confidence")
    assert set(pd.read_parquet(tmp_path / "queue" / "queue.parquet")["cell_id"]) == set(least["cell_id"])
    other = run(*given[:-3], tmp_path / "other", *given[-2:], "--label", "blast")
    assert other.code == 0
    assert "No cells to review: none is blast." in other.out
    assert not (tmp_path / "other").exists()


def test_two_readers_are_compared_and_one_of_them_signs(server, run, smear, read_as, tmp_path):
    results = read_as(tmp_path / "results" / "smear", smear, ["unidentified"] * len(smear.cells)).parent
    write_batch(results, [SlideSummary.read(results / "smear")])
    queue, store, place = tmp_path / "queue", tmp_path / "store", ("-w", tmp_path / "ws")
    run("review", "make", results, "-s", smear.slide, "-o", queue, *place)
    cells = pd.read_parquet(queue / "queue.parquet")["cell_id"].head(10)
    for name, odd in (("Ana", "monocyte"), ("Bo", "smudge cell")):
        labels = ["neutrophil"] * 6 + ["lymphocyte"] * 3 + [odd]
        answers = pd.DataFrame(
            {"cell_id": cells, "label": labels, "reviewer": name, "reviewed_at": "2026-03-01T12:00Z"}
        )
        answers.to_csv(tmp_path / f"{name}.csv", index=False)
        run("review", "read", tmp_path / f"{name}.csv", "-q", queue, "--store", store, *place)
    compared = run("review", "readers", "--store", store, "--json", tmp_path / "readers.json")
    assert compared.code == 0
    assert "Ana and Bo: 9 of 10 cells alike, kappa 0.82 (" in compared.out
    (pair,) = json.loads((tmp_path / "readers.json").read_text())["pairs"]
    assert pair["kappa"]["value"] == pytest.approx(cohen_kappa_score([*"nnnnnnlllm"], [*"nnnnnnllls"]))
    assert [one["answers"] for one in pair["disagreements"]] == [["monocyte", "smudge cell"]]
    assert cells.iloc[9] in compared.out
    run("review", "apply", results, "--store", store, *place)
    signed = run("review", "sign", results, "--by", "Ana")
    assert signed.code == 0
    assert "1 differential is signed." in signed.out
    (row,) = pd.read_parquet(results / "batch.parquet").to_dict("records")
    assert (row["signoff"], row["signed_by"], row["reviewed"]) == ("signed", "Ana", 10)
    assert row["reviewed_count_neutrophil"] == 6
    (results / "smear" / "cells.reviewed.parquet").unlink()
    again = run("review", "sign", results, "--by", "Bo")
    assert again.code == 3
    assert "cells.reviewed.parquet" in again.line


def test_readers_need_cells_of_both(run, tmp_path):
    assert run("review", "readers", "--store", tmp_path / "nowhere").code == 2
    image = tmp_path / "cell.png"
    image.write_bytes(b"a picture")
    store = write_reviews(tmp_path / "store", [Sample("cell", "any", "slide", str(image), 0.1, "", label="monocyte")])
    alone = run("review", "readers", "--store", store)
    assert alone.code == 2
    assert "let a second person review the same queue" in alone.line
