"""Markdown tables."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells may contain emphasis, and are otherwise taken as plain text."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(escape_markdown, line))} |" for line in lines)


def escape_markdown(text: str) -> str:
    r"""Escape what would end a cell, or become HTML or a link.

    Examples
    --------
    >>> print(escape_markdown("a|b <c> [d]"))
    a\|b &lt;c> \[d]
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("[", "\\[").replace("\n", " ")
