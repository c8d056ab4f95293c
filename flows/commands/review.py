"""Review of cells by people: `sgcldff review`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.environment import configure
from flows.options import WORKSPACE, WorkspaceOption, out, output
from sgcldff.errors import IncompleteBatchError

if TYPE_CHECKING:
    from sgcldff.differential import Differential
    from sgcldff.review.applying import Applied

app = typer.Typer()
review_app = typer.Typer(
    help="Cells that the model was not sure of: to people, and their answers back.", no_args_is_help=True
)
app.add_typer(review_app, name="review")

NAMED = 5
"""Reasons that the last line of a command gives."""

ResultsArgument = Annotated[
    list[Path], typer.Argument(help="Folders of results: the --out of `sgcldff infer`, or slides' folders in it.")
]
StoreOption = Annotated[Path, typer.Option("--store", "--out", "-o", help="Folder of all reviews.")]


@review_app.command()
def make(
    results: ResultsArgument,
    slides: Annotated[
        list[str],
        typer.Option(
            "--slides", "-s", help="The slides that were read: as for `sgcldff infer`; may come several times."
        ),
    ],
    to: Annotated[Path, output("Folder of the queue: pictures, tables and review.html.")],
    label: Annotated[
        list[str] | None, typer.Option(help="Cells that were told to be this; may come several times.")
    ] = None,
    below: Annotated[float | None, typer.Option(help="Cells of a lower confidence too, 0 to 1.")] = None,
    sample: Annotated[int, typer.Option(min=0, help="So many others, by chance, for quality control.")] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many, by chance; the sample comes on top.")
    ] = None,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Gather cells for review, by default the unidentified ones: pictures, a table and a page that runs offline."""
    configure(workspace)
    from flows.launch import launch
    from flows.review import review_make
    from sgcldff.records import UNIDENTIFIED
    from sgcldff.review.choosing import Choice

    choice = Choice(tuple(label or [UNIDENTIFIED]), below, sample, limit)
    made = launch(review_make, [str(folder) for folder in results], slides, str(to), choice)
    if made.cells:
        _told(f"{made.cells} cells of {made.slides} slides to review.", f"page: {to / 'review.html'}")
    else:
        _told("No cell to review.", f"none is {' or '.join(choice.labels)}; --below and --sample choose others")
    _end(made.set_aside, "slides or inputs were set aside")


@review_app.command()
def read(
    answers: Annotated[list[Path], typer.Argument(help="answers.csv of reviewers, or folders that hold such files.")],
    queue: Annotated[Path, typer.Option("--queue", "-q", help="Folder of the queue that was reviewed.")],
    store: StoreOption,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Check answers and store them as labels with reviewer and time; the same answers again change nothing."""
    configure(workspace)
    from flows.launch import launch
    from flows.review import review_read

    stored = launch(review_read, [str(path) for path in answers], str(queue), str(store))
    _told(f"{stored.answers} answers, {stored.new} of them new.", f"store: {store}")
    _end((*stored.set_aside, *stored.disputed), "answers need a look")


@review_app.command()
def apply(results: ResultsArgument, store: StoreOption, workspace: WorkspaceOption = WORKSPACE) -> None:
    """Recompute the differentials with what reviewers told; the machine's own stay beside them."""
    configure(workspace)
    from flows.launch import launch
    from flows.review import review_apply

    done = launch(review_apply, [str(folder) for folder in results], str(store))
    if done.slides:
        out.print(_summary(done.slides))
    _told(f"{len(done.slides)} slides counted anew.", f"{done.unreviewed} without a review, left as they are")
    _end(done.set_aside, "slides were set aside")


def _summary(slides: Sequence["Applied"]) -> Table:
    """Show what people changed: a row a slide."""
    table = Table("slide", "cells", show_lines=True)
    table.add_column("differential", no_wrap=True)
    for one in slides:
        table.add_row(Text(one.slide_id), Text(_cells(one)), Text(_shares(one.machine, one.reviewed)))
    return table


def _cells(one: "Applied") -> str:
    tally = one.tally
    told = [
        f"{tally.reviewed} reviewed",
        f"{tally.named} named",
        f"{tally.confirmed} confirmed",
        f"{tally.changed} changed",
    ]
    left = f"unidentified {one.machine.rejected} → {one.reviewed.rejected}"
    return "\n".join([*told, left, *([f"{tally.lost} reviews fit no cell"] if tally.lost else [])])


def _shares(machine: "Differential", reviewed: "Differential") -> str:
    pairs = zip(machine.shares, reviewed.shares, strict=True)
    return "\n".join(
        f"{new.label} {old.count} → {new.count}, {new.share:.1%} ({new.low:.1%} – {new.high:.1%})" for old, new in pairs
    )


def _told(title: str, rest: str) -> None:
    out.print(f"[bold]{escape(title)}[/bold] {escape(rest)}", highlight=False)


def _end(reasons: Sequence[str], what: str) -> None:
    """End in order, or with what somebody has to look at."""
    if not reasons:
        return
    for reason in reasons[NAMED:]:
        out.print(escape(reason), highlight=False)
    more = f"; and {len(reasons) - NAMED} more, listed above" if len(reasons) > NAMED else ""
    raise IncompleteBatchError(f"{len(reasons)} {what}, the rest is done. {'; '.join(reasons[:NAMED])}{more}")
