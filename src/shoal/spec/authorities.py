"""`external` with TLS: which certificates are believed."""

from __future__ import annotations

from pathlib import Path

from shoal.model.app import External
from shoal.spec.document import Loc
from shoal.spec.outside import ExternalFile, address_of
from shoal.spec.problems import quoted
from shoal.spec.review import Review

BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)
"""Where systems keep the authorities that they believe."""


def external(review: Review, loc: Loc, written: ExternalFile, folder: Path) -> External:
    """`loc`: of `external`; `folder`: the app file's."""
    found = address_of(written)
    if found is None:
        if review.sound(*loc):
            review.at_key(loc, "'address' is missing", "add it: address: api.example.com:443")
        found = External(host="localhost", port=1)
    if not written.tls:
        for key in ("sni", "ca"):
            if getattr(written, key) is not None:
                review.at_key((*loc, key), "means nothing without TLS", "add 'tls: true', or remove it")
        return found
    ca = _authorities(review, loc, written, folder)
    return External(host=found.host, port=found.port, tls=True, sni=written.sni or "", ca=ca)


def _authorities(review: Review, loc: Loc, written: ExternalFile, folder: Path) -> str:
    if written.ca is None:
        bundle = next((path for path in BUNDLES if Path(path).is_file()), "")
        if not bundle:
            words = "this machine has no list of authorities that it believes"
            review.at_key((*loc, "tls"), words, "install the package ca-certificates, or name one in 'ca'")
        return bundle
    path = folder / written.ca
    try:
        if "-----BEGIN CERTIFICATE-----" in path.read_text("ascii", "replace"):
            return str(path)
        what = "holds no certificate in PEM"
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
    review.at_value((*loc, "ca"), f"{quoted(str(path), limit=200)} {what}", "it is relative to the app file's folder")
    return str(path)
