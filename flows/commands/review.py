"""`sgcldff review`: classification of uncertain cells by people."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.checks import require_all, require_any_slide, require_known_model, require_report, require_there
from flows.options import ModelOption, Panel, ReportOption, WorkspaceOption, examples, out, output, print_outcome
from sgcldff.core.disks import require_writable
from sgcldff.core.errors import IncompleteBatchError, InputError
from sgcldff.core.records import UNIDENTIFIED
from sgcldff.core.wording import counted, first_few
from tasks.workspace import WORKSPACE

if TYPE_CHECKING:
    from sgcldff.counting.differential import Differential
    from sgcldff.results.review.apply import Applied

app = typer.Typer()
review_app = typer.Typer(
    help="Have people classify the cells that the model was uncertain about.", no_args_is_help=True
)
app.add_typer(review_app, name="review", rich_help_panel=Panel.SLIDES)

LISTED = 5
"""Reasons that the last line of a command lists."""

ResultsArgument = Annotated[
    list[Path],
    typer.Argument(help="Folders of results: the --out of `sgcldff infer`, or folders of single slides in it."),
]
StoreOption = Annotated[Path, typer.Option("--store", "--out", "-o", help="Folder of all reviews.")]


@review_app.command(
    epilog=examples(
        "sgcldff review make results --slides /data/slides --out queue --sample 50",
        "sgcldff review make results --slides /data/slides --out queue --representative 20",
        "sgcldff review make results --slides /data/slides --out queue --like-blasts 30",
    )
)
def make(
    results: ResultsArgument,
    slides: Annotated[
        list[str],
        typer.Option("--slides", "-s", help="The slides that were read, as for `sgcldff infer`; may be repeated."),
    ],
    to: Annotated[Path, output("Folder of the queue: pictures, tables and review.html.")],
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Cells classified as this; may be repeated.",
            show_default="unidentified or, if there are none, the least sure 50; none with --representative",
        ),
    ] = None,
    below: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Also cells with a confidence below this, 0 to 1.", show_default="none"),
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="Also this many other cells, at random, as a check.")] = 0,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="At most this many cells, at random, not counting the sample.", show_default="all"),
    ] = None,
    representative: Annotated[
        int,
        typer.Option(min=0, help="This many cells that together represent all, for `sgcldff calibrate`; 20 is enough."),
    ] = 0,
    like_blasts: Annotated[
        int,
        typer.Option(
            min=0,
            help="Also this many cells that look most like blasts: large nuclei, scant cytoplasm.",
        ),
    ] = 0,
    model: ModelOption = None,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Gather cells for review, such as the unidentified ones: pictures, a table and a page that works offline."""
    require_all(
        lambda: require_writable(workspace),
        *(partial(require_there, folder, "folder of results") for folder in results),
        lambda: require_any_slide(slides),
        lambda: representative and require_known_model(model, workspace),
    )
    from flows.environment import configure, launch

    configure(workspace)
    from flows.review import review_make
    from sgcldff.results.review.selection import ReviewSelection

    labels = tuple(label or ([] if representative else [UNIDENTIFIED]))
    choice = ReviewSelection(labels, below, sample, limit, representative, like_blasts)
    made = launch(review_make, [str(folder) for folder in results], slides, str(to), choice, str(workspace), model)
    if made.cells:
        cells = f"{counted(made.cells, 'cell')} of {counted(made.slides, 'slide')} to review"
        why = ": none is unidentified, of these the model was least sure" if made.least_sure else ""
        print_outcome(f"{cells}{why}.", page=to / "review.html")
    else:
        wanted = f"none is {' or '.join(labels)}" if labels else "none was found"
        print_outcome(f"No cells to review: {wanted}.", hint="--below and --sample select others")
    _raise_if_incomplete(made.skipped, "input was skipped", "inputs were skipped")


@review_app.command(epilog=examples("sgcldff review read answers.csv --queue queue --store reviews"))
def read(
    answers: Annotated[list[Path], typer.Argument(help="answers.csv of reviewers, or folders that hold such files.")],
    queue: Annotated[Path, typer.Option("--queue", "-q", help="Folder of the queue that was reviewed.")],
    store: StoreOption,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Check answers and store them as labels with reviewer and time; reading them again changes nothing."""
    require_all(
        lambda: require_writable(workspace),
        lambda: require_writable(store),
        lambda: require_there(queue / "queue.parquet", "queue"),
        *(partial(require_there, path, "file or folder of answers") for path in answers),
    )
    from flows.environment import configure, launch

    configure(workspace)
    from flows.review import review_read

    stored = launch(review_read, [str(path) for path in answers], str(queue), str(store))
    print_outcome(f"{counted(stored.answers, 'answer')}, {stored.new} of them new.", store=store)
    _raise_if_incomplete((*stored.skipped, *stored.disputed), "answer needs attention", "answers need attention")


@review_app.command(epilog=examples("sgcldff review apply results --store reviews"))
def apply(results: ResultsArgument, store: StoreOption, workspace: WorkspaceOption = WORKSPACE) -> None:
    """Recompute the differentials with the reviewers' labels; the model's own are kept beside them."""
    require_all(
        lambda: require_writable(workspace),
        *(partial(require_there, folder, "folder of results") for folder in results),
        lambda: require_there(store / "reviews", "store of reviews"),
    )
    from flows.environment import configure, launch

    configure(workspace)
    from flows.review import review_apply

    done = launch(review_apply, [str(folder) for folder in results], str(store))
    if done.slides:
        table = Table("slide", "cells", show_lines=True)
        table.add_column("differential", no_wrap=True)
        for one in done.slides:
            table.add_row(Text(one.slide_id), Text(_cells(one)), Text(_shares(one.machine, one.reviewed)))
        out.print(table)
    recomputed = f"Differentials of {counted(len(done.slides), 'slide')} recomputed."
    print_outcome(recomputed, unchanged=f"{done.unreviewed} without a review")
    _raise_if_incomplete(done.skipped, "slide was skipped", "slides were skipped")


@review_app.command(epilog=examples("sgcldff review readers --store reviews"))
def readers(store: StoreOption, report: ReportOption = None) -> None:
    """Compare every two readers on the cells that both answered: Cohen's kappa, and the cells on which they differ."""
    require_all(
        lambda: require_there(store / "reviews", "store of reviews"),
        lambda: require_report(report),
    )
    from sgcldff.core.json_file import write_json
    from sgcldff.data.reviews.consensus import consensus_of
    from sgcldff.data.reviews.readers import reader_agreements
    from sgcldff.data.reviews.store import ReviewStore

    found = reader_agreements(consensus_of(ReviewStore.open(store).reviews()))
    if not found:
        raise InputError(f"{store}: no cell was answered by two readers: let a second person review the same queue")
    for one in found:
        table = Table("slide", "cell", *map(escape, one.readers), title=Text(str(one)), title_justify="left")
        for first, second in one.disagreements:
            table.add_row(*map(Text, (first.slide_id, first.cell_id, first.label, second.label)))
        out.print(table if one.disagreements else Text(str(one)))
    if report is not None:
        write_json(report, {"pairs": [one.to_dict() for one in found]})
    print_outcome(f"{counted(len(found), 'pair')} of readers.", **({} if report is None else {"report": report}))


@review_app.command(epilog=examples("sgcldff review sign results/slide --by 'Ada Lima'"))
def sign(
    results: ResultsArgument,
    by: Annotated[str, typer.Option("--by", help="Name of the person who answers for the differentials.")],
) -> None:
    """Sign differentials, as counted after review where there was one; until then they are preliminary."""
    require_all(*(partial(require_there, folder, "folder of results") for folder in results))
    from sgcldff.results.batch import update_batches
    from sgcldff.results.review.selection import results_in
    from sgcldff.results.review.sign import sign as sign_slide

    folders, failed, done = results_in(results), list[str](), 0
    for folder in folders:
        try:
            signed = sign_slide(folder, by)
        except InputError as error:
            failed.append(f"slide {folder.name}: {error}")
            continue
        done += 1
        out.print(escape(f"{folder.name}: {signed}; copy: {folder / signed.place}"), highlight=False)
    failed += update_batches(folders)
    print_outcome(f"{counted(done, 'differential is', 'differentials are')} signed.")
    _raise_if_incomplete(failed, "slide was not signed", "slides were not signed")


def _cells(one: "Applied") -> str:
    outcomes = one.outcomes
    lines = [
        f"{outcomes.reviewed} reviewed",
        f"{outcomes.named} classified",
        f"{outcomes.confirmed} confirmed",
        f"{outcomes.changed} changed",
        f"unidentified {one.machine.rejected} → {one.reviewed.rejected}",
    ]
    if outcomes.lost:
        lines.append(f"{counted(outcomes.lost, 'review matches', 'reviews match')} no cell")
    return "\n".join(lines)


def _shares(machine: "Differential", reviewed: "Differential") -> str:
    old, new = machine.counts, reviewed.counts
    shares = {one.label: f", {one.share:.1%} ({one.low:.1%} – {one.high:.1%})" for one in reviewed.shares}
    return "\n".join(
        f"{label} {old.get(label, 0)} → {number}{shares.get(label, '')}"
        for label, number in new.items()
        if label != UNIDENTIFIED
    )


def _raise_if_incomplete(reasons: Sequence[str], one: str, several: str) -> None:
    """Raise `IncompleteBatchError` with the first reasons, if there are any; the others are printed."""
    if not reasons:
        return
    for reason in reasons[LISTED:]:
        out.print(escape(reason), highlight=False)
    failures, rest = counted(len(reasons), one, several), ", listed above" if len(reasons) > LISTED else ""
    raise IncompleteBatchError(f"{failures}, the rest is done. {first_few(reasons, LISTED)}{rest}")
