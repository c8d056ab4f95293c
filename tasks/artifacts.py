"""Artifacts on the page of a Prefect run: tables, text, pictures and links.

Outside of a run nothing is shown. If the server is unavailable, only the artifacts are lost.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.stages import in_flow_run

logger = logging.getLogger(__name__)


def show_table(rows: Sequence[Mapping[str, Any]], key: str, description: str | None = None) -> None:
    """Show rows, each a mapping of column to value."""
    _show("table", table=list(rows), key=key, description=description)


def show_markdown(text: str, key: str, description: str | None = None) -> None:
    """Show Markdown."""
    _show("markdown", markdown=text, key=key, description=description)


def show_image(url: str, key: str, description: str | None = None) -> None:
    """Show a picture."""
    _show("image", image_url=url, key=key, description=description)


def show_link(url: str, key: str, description: str | None = None) -> None:
    """Show a link."""
    _show("link", link=url, key=key, description=description)


def _show(kind: str, **content: Any) -> None:
    if not in_flow_run():
        return
    from prefect import artifacts
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            getattr(artifacts, f"create_{kind}_artifact")(**content)
    except client_errors() as error:
        logger.warning("Prefect does not accept the %s %s: %s", kind, content["key"], error)


def client_errors() -> tuple[type[Exception], ...]:
    """Return the errors of Prefect's client when the server is unavailable or failing.

    HTTP errors, Prefect's own, those of a temporary server that did not start or a closed client (`RuntimeError`), and
    those of malformed answers (`ValueError`).
    """
    import httpx
    from prefect.exceptions import PrefectException

    return httpx.HTTPError, PrefectException, RuntimeError, ValueError
