"""Copies of a local folder in a remote store, in which only what has changed is copied again."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from sgcldff.core.json_file import read_json, write_json
from sgcldff.slides.remote.stores import FAILURES, LISTING_S, Filesystem, ask, filesystem, is_transient, store_errors

SENT = "sent.json"
"""Sizes and times of change of the files that were copied, in the local folder."""
NOT_SENT = (SENT, ".lock")
"""Ends of the names of files that stay here."""
FILES_AT_ONCE = 64
PAUSES_S = (1.0, 4.0, 15.0)
"""Before a copy is tried again."""

logger = logging.getLogger(__name__)


def upload(folder: Path, uri: str, part: str, last: str) -> None:
    """Copy what is new, changed or missing in the store, and remove there what was copied and is gone here.

    Parameters
    ----------
    part
        Subfolder that is copied; empty for everything.
    last
        Name of the files that are copied when all others are there.

    Raises
    ------
    ServiceError, InputError
        If the store fails or refuses.
    """
    store, target = filesystem(uri)
    sent = read_json(folder / SENT, "remove it") if (folder / SENT).is_file() else {}
    files = [path for path in (folder / part).rglob("*") if path.is_file() and not path.name.endswith(NOT_SENT)]
    states = {path.relative_to(folder).as_posix(): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    with store_errors(uri):
        found = ask(store, "find", f"{target}/{part}".rstrip("/"), LISTING_S)
        stored = {name.removeprefix(f"{target}/"): item["size"] for name, item in found.items()}
        changed = [name for name in states if sent.get(name) != states[name] or stored.get(name) != states[name][0]]
        changed.sort(key=lambda name: name.endswith(last))
        for at in range(0, len(changed), FILES_AT_ONCE):
            _send(store, folder, target, changed[at : at + FILES_AT_ONCE])
        gone = [name for name in stored if name in sent and name not in states]
        if gone:
            store.rm([f"{target}/{name}" for name in gone])
    write_json(folder / SENT, {name: state for name, state in sent.items() if name not in gone} | states)


def _send(store: Filesystem, folder: Path, target: str, names: Sequence[str]) -> None:
    sources, targets = [str(folder / name) for name in names], [f"{target}/{name}" for name in names]
    for pause in PAUSES_S:
        try:
            store.put(sources, targets)
            return
        except FAILURES as error:
            if not is_transient(error):
                raise
            logger.warning("copying %d files was interrupted and is tried again in %.0f s", len(names), pause)
        time.sleep(pause)
    store.put(sources, targets)
