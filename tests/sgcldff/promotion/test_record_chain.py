"""Chains of decision records: whatever is changed, removed, added or put elsewhere afterwards is found and named."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sgcldff.core.errors import InputError
from sgcldff.promotion.record_chain import chained, faults, read_signer, record_digest, signing_key

LAB = Ed25519PrivateKey.generate()
SIGNER = LAB.public_key().public_bytes_raw().hex()


def name_of(number: int, text: str) -> str:
    return f"1/2026010{number}T0-{record_digest(text)}"


def chain(*keys: Ed25519PrivateKey | None) -> tuple[dict[str, str], str]:
    """Make a record for every key; give the records and the name of the last."""
    records, newest = dict[str, str](), ""
    for number, key in enumerate(keys):
        text = chained(json.dumps({"outcome": "promoted", "score": 0.1 + number}), newest, key)
        newest = name_of(number, text)
        records[newest] = text
    return records, newest


def rename(records: dict[str, str], name: str, text: str) -> str:
    """Replace a record as somebody would who knows how names are made; gives its new name."""
    del records[name]
    new = name.rpartition("-")[0] + "-" + record_digest(text)
    records[new] = text
    return new


def change(records: dict[str, str], name: str) -> str:
    records[name] = records[name].replace("promoted", "refused")
    return f"{name}: its text was changed"


def remove(records: dict[str, str], name: str) -> str:
    del records[name]
    return f"{name}: removed"


def lose(records: dict[str, str], name: str) -> str:
    records[name] = ""
    return f"{name}: its file is missing"


def forge(records: dict[str, str], name: str) -> str:
    rename(records, name, records[name].replace("promoted", "refused"))
    return f"{name}: removed"


def insert(records: dict[str, str], name: str) -> str:
    text = chained(json.dumps({"outcome": "refused"}), name, LAB)
    added = name_of(9, text)
    records[added] = text
    return f"{added}: added later"


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("key", [None, LAB])
@pytest.mark.parametrize("tamper", [change, remove, lose, forge, insert])
def test_a_chain_holds_until_somebody_tampers_with_any_record(
    tamper: Callable[[dict[str, str], str], str], key: Ed25519PrivateKey | None, number: int
) -> None:
    records, newest = chain(key, key, key, key)
    assert list(faults(records, newest)) == []
    expected = tamper(records, list(records)[number])
    assert any(fault.startswith(expected) for fault in faults(records, newest))


def test_a_chain_written_anew_lacks_the_signatures() -> None:
    records, newest = chain(LAB, LAB)
    first, last = records
    forged = json.loads(records[last]) | {"outcome": "refused"}
    newest = rename(records, last, json.dumps(forged))
    assert list(faults(records, newest)) == [f"{newest}: its signature is wrong"]
    stripped = {key: value for key, value in forged.items() if key not in ("signature", "signer")}
    newest = rename(records, newest, json.dumps(stripped))
    assert list(faults(records, newest)) == [f"{newest}: not signed, although the one before it is"]
    other, newest = chain(Ed25519PrivateKey.generate())
    assert list(faults(other, newest)) == []
    assert "signed with another key" in next(faults(other, newest, SIGNER))
    unsigned, newest = chain(None, None)
    assert list(faults(unsigned, newest, SIGNER)) == [f"{newest}: the last record is not signed"]
    later, newest = chain(None, LAB)
    assert list(faults(later, newest, SIGNER)) == []
    assert first in records


def test_keys_of_openssl_are_read_and_others_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SGCLDFF_SIGNING_KEY", raising=False)
    assert signing_key() is None
    private, public = tmp_path / "lab.key", tmp_path / "lab.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    monkeypatch.setenv("SGCLDFF_SIGNING_KEY", str(private))
    key = signing_key()
    assert key is not None
    assert read_signer(public) == key.public_key().public_bytes_raw().hex()
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content, message in ((rsa, "not an Ed25519 key"), (b"x", "not a PEM key")):
        private.write_bytes(content)
        with pytest.raises(InputError, match=rf"lab\.key: {message}.*openssl genpkey"):
            signing_key()
    private.unlink()
    with pytest.raises(InputError, match=r"lab\.key: no such file"):
        signing_key()
