"""What a stage shows on the page of its run in Prefect: tables, text, pictures and links.

Outside of a run nothing is shown, and a server that is away costs what would be shown and nothing else.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.stages import in_flow_run

logger = logging.getLogger(__name__)


def show_table(rows: Sequence[Mapping[str, Any]], key: str, description: str | None = None) -> None:
    """Show rows, a mapping of column to value each."""
    _show("table", table=list(rows), key=key, description=description)


def show_markdown(text: str, key: str, description: str | None = None) -> None:
    """Show Markdown."""
    _show("markdown", markdown=text, key=key, description=description)


def show_image(url: str, key: str, description: str | None = None) -> None:
    """Show a picture."""
    _show("image", image_url=url, key=key, description=description)


def show_link(url: str, key: str, description: str | None = None) -> None:
    """Show where something lies."""
    _show("link", link=url, key=key, description=description)


def _show(kind: str, **content: Any) -> None:
    if not in_flow_run():
        return
    from prefect import artifacts

    try:
        getattr(artifacts, f"create_{kind}_artifact")(**content)
    except away() as error:
        logger.warning("Prefect does not take the %s %s: %s", kind, content["key"], error)


def away() -> tuple[type[Exception], ...]:
    """Name what Prefect's client raises where the server is away, restarting or not itself.

    Connections and statuses, its own errors, a temporary server that did not start or a client that was closed, and
    answers that are none.
    """
    import httpx
    from prefect.exceptions import PrefectException

    return httpx.HTTPError, PrefectException, RuntimeError, ValueError
