"""Artifacts on the page of a Prefect run: tables, text and pictures.

Outside of a run nothing is shown. If the server is unavailable, only the artifacts are lost.
"""

import base64
import io
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from sgcldff.core.markdown import escape_markdown
from tasks.stages import in_flow_run

logger = logging.getLogger(__name__)

SERVED = "SGCLDFF_SERVED"
"""Environment variable FOLDER=URL: the folder that a web server serves, and its address there."""
SHOWN_PX = (1600, 1600)
"""Largest size of an embedded picture."""


def show_table(rows: Sequence[Mapping[str, Any]], key: str, description: str | None = None) -> None:
    """Show rows, each a mapping of column to value."""
    _show("table", table=list(rows), key=key, description=description)


def show_markdown(text: str, key: str, description: str | None = None) -> None:
    """Show Markdown."""
    _show("markdown", markdown=text, key=key, description=description)


def show_image(path: Path, key: str, description: str | None = None) -> None:
    """Show a picture of this machine, reduced and embedded, since browsers do not open files for a server's page."""
    if not in_flow_run():
        return
    with Image.open(path) as picture:
        reduced = picture.convert("RGB")
        reduced.thumbnail(SHOWN_PX)
    content = io.BytesIO()
    reduced.save(content, "JPEG", quality=80)
    url = f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
    _show("image", image_url=url, key=key, description=description)


def link_to(path: Path) -> str:
    """Return Markdown that leads to a file: a link where a web server serves it, and its path elsewhere."""
    folder, _, address = os.environ.get(SERVED, "").partition("=")
    place = path.resolve()
    if folder and address and place.is_relative_to(Path(folder).resolve()):
        relative = place.relative_to(Path(folder).resolve()).as_posix()
        return f"[{escape_markdown(relative)}]({address.rstrip('/')}/{quote(relative)})"
    return f"`{place}` on {platform.node()}"


def _show(kind: str, **content: Any) -> None:
    if not in_flow_run():
        return
    from prefect import artifacts
    from prefect.context import SettingsContext, get_settings_context

    context = get_settings_context()
    # not Prefect's `temporary_settings`, which reads all settings anew: 0.1 s
    client = context.settings.client.model_copy(update={"max_retries": 0})
    impatient = context.settings.model_copy(update={"client": client})
    try:
        with SettingsContext(profile=context.profile, settings=impatient):
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
