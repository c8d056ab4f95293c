"""`sgcldff validate`: a study that compares the model with two readers."""

from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from flows.checks import require_all, require_laboratory, require_there
from flows.options import Panel, examples, output, print_outcome
from sgcldff.core.errors import IncompleteBatchError
from sgcldff.core.wording import counted, first_few

app = typer.Typer()


@app.command(
    rich_help_panel=Panel.SLIDES,
    epilog=examples("sgcldff validate results --counts counts.csv --reference lab.toml --out study"),
)
def validate(
    results: Annotated[Path, typer.Argument(help="Folder of results: the --out of `sgcldff infer`.")],
    counts: Annotated[
        Path, typer.Option(help="Table of two readers' counts: slide_id, reader, label, count, perhaps specimen.")
    ],
    to: Annotated[Path, output("Folder for validation.html and validation.json.")],
    reference: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of your reference intervals, which decide which smears are abnormal.",
            show_default="not judged",
        ),
    ] = None,
) -> None:
    """Validate the differential against two readers: bias, regression, limits of agreement, abnormal smears, power."""
    from sgcldff.counting.reference_counts import ReferenceTable
    from sgcldff.counting.reference_intervals import read_reference

    read_table = cache(lambda: ReferenceTable.read(counts))
    require_all(
        lambda: require_there(results, "folder of results"),
        lambda: read_table().counts(),
        lambda: require_laboratory(None, reference),
    )
    from sgcldff.results.validation import read_study, write_validation

    study = read_study(results, read_table())
    rows, name = (read_reference(reference), reference.name) if reference else ((), "")
    page, _ = write_validation(to, study, rows, name)
    print_outcome(f"{counted(len(study.specimens), 'specimen')} compared.", page=page)
    if study.left_out:
        raise IncompleteBatchError(
            f"{counts}: {counted(len(study.left_out), 'slide')} left out: {first_few(study.left_out)}: read them with"
            " `sgcldff infer`, or correct slide_id"
        )
