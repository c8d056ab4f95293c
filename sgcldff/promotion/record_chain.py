"""The chain of a registry's decision records, in which a changed, removed or added record shows.

Each record names the one before it, and a record's name contains a digest of its text. With an Ed25519 key records are
signed too: without one, whoever can write to the registry could write the whole chain anew.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgcldff.core.errors import InputError, MissingInputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY = "SGCLDFF_SIGNING_KEY"
"""Environment variable that names the file of the private key."""
PREVIOUS, SIGNATURE, SIGNER = "previous", "signature", "signer"
"""Keys of a record: the name of the one before it, the signature over the rest, and the public key, in hexadecimal."""


def signing_key() -> "Ed25519PrivateKey | None":
    """Read the private key that `KEY` names; None if it is not set.

    Raises
    ------
    InputError
        If the file is missing, or holds no Ed25519 key without a password.
    """
    file = os.environ.get(KEY)
    return _read_key(Path(file), private=True) if file else None


def read_signer(file: Path) -> str:
    """Read a public key, PEM, and return it in hexadecimal.

    Raises
    ------
    InputError
        As `signing_key`.
    """
    return str(_read_key(file, private=False).public_bytes_raw().hex())


def _read_key(file: Path, *, private: bool) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    if not file.is_file():
        raise MissingInputError(f"{file}: no such file; {KEY} and --key name files of Ed25519 keys")
    try:
        text = file.read_bytes()
        key = serialization.load_pem_private_key(text, None) if private else serialization.load_pem_public_key(text)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{file}: not a PEM key without a password ({error}): {_remedy(private)}") from error
    if not isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
        raise InputError(f"{file}: not an Ed25519 key: {_remedy(private)}")
    return key


def _remedy(private: bool) -> str:
    return f"make one with `openssl {'genpkey -algorithm ed25519 -out' if private else 'pkey -pubout -in'} FILE`"


def chained(record: str, previous: str, key: "Ed25519PrivateKey | None") -> str:
    """Return the JSON of a record with the name of the one before it, empty for the first, and a signature."""
    content = {**json.loads(record), PREVIOUS: previous}
    if key is not None:
        content[SIGNER] = key.public_key().public_bytes_raw().hex()
        content[SIGNATURE] = key.sign(_signed_bytes(content)).hex()
    return json.dumps(content, indent=2)


def _signed_bytes(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def record_digest(record: str) -> str:
    """Return the SHA-256 of a record's text, as its name contains it."""
    return hashlib.sha256(json.dumps([record], separators=(",", ":")).encode()).hexdigest()


def faults(records: Mapping[str, str], newest: str, signer: str | None = None) -> Iterator[str]:
    """Yield what is wrong with a chain of records, naming the records.

    Parameters
    ----------
    records
        Name -> JSON, empty where the file is gone; names end in the digest of the text.
    newest
        Name of the last record; empty if there is none.
    signer
        The public key with which records have to be signed from the first signed one on, in hexadecimal.
    """
    contents = {name: json.loads(text) for name, text in records.items() if name.endswith(record_digest(text))}
    yield from (
        f"{name}: {'its text was changed' if text else 'its file is missing'}"
        for name, text in records.items()
        if name not in contents
    )
    followers = {newest: "the registry"} | {content[PREVIOUS]: name for name, content in contents.items()}
    missing = [name for name in followers if name and name not in records]
    yield from (f"{name}: removed, although {followers[name]} names it" for name in missing)
    if len(contents) == len(records) and not missing:  # otherwise those before the gap would look so, too
        yield from (
            f"{name}: added later, since no record and not the registry names it"
            for name in records
            if name not in followers
        )
    for name, content in contents.items():
        if SIGNATURE in content:
            if not _is_signed(content):
                yield f"{name}: its signature is wrong"
            elif signer not in (None, content[SIGNER]):
                yield f"{name}: signed with another key ({content[SIGNER]})"
        elif SIGNATURE in contents.get(content[PREVIOUS], {}):
            yield f"{name}: not signed, although the one before it is"
    if signer and contents.get(newest) and SIGNATURE not in contents[newest]:
        yield f"{newest}: the last record is not signed"


def _is_signed(content: Mapping[str, Any]) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    rest = {key: value for key, value in content.items() if key != SIGNATURE}
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(content[SIGNER])).verify(
            bytes.fromhex(content[SIGNATURE]), _signed_bytes(rest)
        )
    except (InvalidSignature, ValueError, KeyError, TypeError):
        return False
    return True
