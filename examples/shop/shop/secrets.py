"""Passwords and tokens, with nothing but the standard library."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from pathlib import Path

_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}
"""16 MB and some 40 ms a hash."""


def hash_password(password: str) -> str:
    """`<salt>$<hash>`, both hex."""
    salt = os.urandom(16)
    return f"{salt.hex()}${_scrypt(password, salt).hex()}"


def password_matches(password: str, stored: str) -> bool:
    salt, _, expected = stored.partition("$")
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)).hex(), expected)


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, **_SCRYPT)


def signing_key(path: Path) -> bytes:
    """The key of all replicas: whoever comes first writes it (0600), the others read it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    mine = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(32))
    try:
        os.link(mine, path)  # whole or not at all, and never over another's
    except FileExistsError:
        pass
    mine.unlink()
    return path.read_bytes()


def sign(subject: str, key: bytes, *, expires_at: float) -> str:
    """A token that says who, until when (seconds of the epoch), and proves that we said so."""
    claim = _encode(f"{int(expires_at)}:{subject}".encode())
    return f"{claim}.{_encode(_mac(claim, key))}"


def verify(token: str, key: bytes, *, now: float) -> str | None:
    """Its subject; None when it is forged, broken or expired."""
    claim, _, mac = token.partition(".")
    if not hmac.compare_digest(_encode(_mac(claim, key)).encode(), mac.encode()):
        return None
    expires_at, _, subject = base64.urlsafe_b64decode(claim + "=" * (-len(claim) % 4)).decode().partition(":")
    return subject if now < int(expires_at) else None


def _mac(claim: str, key: bytes) -> bytes:
    return hmac.digest(key, claim.encode(), "sha256")


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
