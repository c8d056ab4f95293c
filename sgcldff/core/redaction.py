"""Removes secrets from everything that is logged or shown, whichever library wrote it.

A secret is the value of an environment variable with a telling name (`MLFLOW_TRACKING_PASSWORD`, `PREFECT_API_KEY`,
`AWS_SECRET_ACCESS_KEY`, ...), the password in a URL in any variable or in the text itself, the signature of a signed
URL, the name of an AWS key, and whatever is assigned to a password or token.
"""

import logging
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from sgcldff.core.errors import readable

BLOT = "***"
SHORTEST = 6
"""Characters of a secret that is searched for by its value: shorter ones would match ordinary words."""
SECRET_NAMES = re.compile(
    r"(?:PASS(?:WORD|WD|PHRASE)?|SECRET|TOKEN|CREDENTIALS?|AUTH_STRING|AUTHORIZATION"
    r"|(?:API|ACCESS|PRIVATE|ACCOUNT|SECRET|STORAGE|SIGNING|ENCRYPTION)_KEY(?:_ID)?)$",
    re.IGNORECASE,
)
"""Endings of the names of environment variables that contain secrets."""
USER_IN_URL = re.compile(r"(?<=://)(?:[^\s/@'\"<>]*:)?([^\s/@'\"<>]+)@")
"""User and password before the host; group 1 is the password, or the user if there is none."""
PATTERNS = (
    (re.compile(r"(?<=://)[^\s/@'\"<>]+@"), f"{BLOT}@"),
    (
        re.compile(r"([?&](?:X-Amz-[\w-]+|AWSAccessKeyId|Signature|sig|se|sp|key|token)=)[^\s&'\"<>]+", re.I),
        rf"\1{BLOT}",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), BLOT),
    (re.compile(r"(authorization['\"]?\s*[:=]\s*b?['\"]?(?:basic|bearer)\s+)[^\s'\",]+", re.I), rf"\1{BLOT}"),
    (
        re.compile(
            r"([\w-]*(?:password|passwd|secret|token|api_?key|access_?key)[\w-]*['\"]?\s*[:=]\s*['\"]?)"
            r"[^\s'\",;&<>]+",
            re.I,
        ),
        rf"\1{BLOT}",
    ),
)


def redacted(text: str) -> str:
    """Return a text with `***` in place of every secret, and of which all is UTF-8."""
    text = readable(text)
    for secret in sorted(set(_secrets()), key=len, reverse=True):
        text = text.replace(secret, BLOT)
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        if SECRET_NAMES.search(name):
            yield from _spellings(value)
        yield from (spelling for password in USER_IN_URL.findall(value) for spelling in _spellings(password))


def _spellings(value: str) -> Iterator[str]:
    """Yield a secret as it is and without %-escapes; for `user:password` also the password alone."""
    spellings = {value, unquote(value), value.partition(":")[2]}
    return (spelling for spelling in spellings if len(spelling) >= SHORTEST)


class RedactingRecordFactory:
    """Creates log records without secrets, so that no handler, not even a library's, ever sees one."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __call__(self, *parts: Any) -> logging.LogRecord:
        """Create a record from the arguments of `logging.LogRecord`."""
        record: logging.LogRecord = self.make(*parts)
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return record  # logging itself reports a message that does not fit its arguments
        if (safe := redacted(message)) != message:
            record.msg, record.args = safe, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redacted(logging.Formatter().formatException(record.exc_info))
        return record


def redact_logs() -> None:
    """Remove secrets from all log records of this process; calling it again has no effect."""
    make = logging.getLogRecordFactory()
    if not isinstance(make, RedactingRecordFactory):
        logging.setLogRecordFactory(RedactingRecordFactory(make))
