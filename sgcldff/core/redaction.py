"""Secrets are blotted out of whatever is logged or shown, whichever library wrote it.

A secret is the value of an environment variable that is named like one (`MLFLOW_TRACKING_PASSWORD`, `PREFECT_API_KEY`,
`AWS_SECRET_ACCESS_KEY`, ...), the password in a URL that such a variable or the text itself holds, the signature of a
signed URL, the name of an AWS key, and what is assigned to a password or token.
"""

import logging
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

BLOT = "***"
SHORTEST = 6
"""Signs of a secret that is looked for by its value: shorter ones would blot out ordinary words."""
NAMED = re.compile(
    r"(?:PASS(?:WORD|WD|PHRASE)?|SECRET|TOKEN|CREDENTIALS?|AUTH_STRING|AUTHORIZATION"
    r"|(?:API|ACCESS|PRIVATE|ACCOUNT|SECRET|STORAGE|SIGNING|ENCRYPTION)_KEY(?:_ID)?)$",
    re.IGNORECASE,
)
"""Ends of the names of environment variables that hold secrets."""
USER_IN_URL = re.compile(r"(?<=://)(?:[^\s/@'\"<>]*:)?([^\s/@'\"<>]+)@")
"""What stands before the host; group 1 is the password, or the user where there is none."""
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
            r"([\w-]*(?:password|passwd|secret|token|api_?key|access_?key)[\w-]*(?:['\"]\s*:\s*|\s*=\s*)['\"]?)"
            r"[^\s'\",;&<>]+",
            re.I,
        ),
        rf"\1{BLOT}",
    ),
)


def redacted(text: str) -> str:
    """Give a text without the secrets in it."""
    for secret in sorted(set(_secrets()), key=len, reverse=True):
        text = text.replace(secret, BLOT)
    for pattern, blotted in PATTERNS:
        text = pattern.sub(blotted, text)
    return text


def _secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        if NAMED.search(name):
            yield from _parts(value)
        yield from (part for password in USER_IN_URL.findall(value) for part in _parts(password))


def _parts(value: str) -> Iterator[str]:
    """Yield a secret as it is given and without %-escapes; of `user:password` also the password alone."""
    spellings = {value, unquote(value), value.partition(":")[2]}
    return (spelling for spelling in spellings if len(spelling) >= SHORTEST)


class RedactedRecords:
    """Makes log records without secrets, so that no handler, a library's neither, ever sees one."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __call__(self, *parts: Any) -> logging.LogRecord:
        """Make a record as `logging.LogRecord` is made."""
        record: logging.LogRecord = self.make(*parts)
        try:
            told = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return record  # logging itself reports a message that does not fit its arguments
        if (safe := redacted(told)) != told:
            record.msg, record.args = safe, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redacted(logging.Formatter().formatException(record.exc_info))
        return record


def redact_logs() -> None:
    """Have all records of this process made without secrets; done twice it changes nothing more."""
    make = logging.getLogRecordFactory()
    if not isinstance(make, RedactedRecords):
        logging.setLogRecordFactory(RedactedRecords(make))
