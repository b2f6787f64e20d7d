"""`external` over TLS in the app file."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.api.admission import admit
from shoal.errors import UsageError
from shoal.model.app import App, External, Service
from shoal.spec import authorities
from shoal.spec.load import load_text
from shoal.spec.problems import SpecError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----")
    monkeypatch.setattr(authorities, "BUNDLES", ("/nonexistent/bundle", str(bundle)))
    (tmp_path / "own.pem").write_text("our authority\n-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----")
    return tmp_path


def api(written: str, folder: Path) -> Service:
    text = f"services:\n  api: {{external: {written}}}\n"
    return load_text(text.encode(), "shoal.yaml", folder, {}, "").services[0]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("'a.com:80'", External(host="a.com", port=80)),
        ("{address: 'a.com:80'}", External(host="a.com", port=80)),
        ("{address: 'a.com:443', tls: true}", External(host="a.com", port=443, tls=True, ca="bundle.pem")),
        (
            "{address: '10.0.0.7:8443', tls: true, sni: a.com, ca: own.pem}",
            External(host="10.0.0.7", port=8443, tls=True, sni="a.com", ca="own.pem"),
        ),
    ],
)
def test_what_is_written_is_what_is_called(written: str, expected: External, folder: Path) -> None:
    found = api(written, folder)
    assert isinstance(found.workload, External)
    assert found.port == expected.port
    assert found.workload.ca == (str(folder / expected.ca) if expected.ca else "")
    assert (found.workload.host, found.workload.tls, found.workload.sni) == (expected.host, expected.tls, expected.sni)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("{tls: true}", "services.api.external: 'address' is missing; add it"),
        ("{address: a.com}", "services.api.external.address: must be host:port"),
        ("{address: 'a.com:443', tsl: true}", "services.api.external.tsl: unknown key; did you mean 'tls'?"),
        ("{address: 'a.com:443', tls: yes}", "services.api.external.tls: must be true or false"),
        ("{address: 'a.com:443', sni: a.com}", "services.api.external.sni: means nothing without TLS; add 'tls: true'"),
        ("{address: 'a.com:443', tls: true, sni: 'a.com:443'}", "services.api.external.sni: must be a host name"),
        ("{address: 'a.com:443', tls: true, ca: no.pem}", "no.pem' cannot be read: No such file or directory; it is"),
        ("{address: 'a.com:443', tls: true, ca: key.pem}", "key.pem' holds no certificate in PEM"),
    ],
)
def test_a_mistake_is_told_with_the_way_out(written: str, words: str, folder: Path) -> None:
    with pytest.raises(SpecError) as caught:
        api(written, folder)
    told = [f"{problem.path}: {problem.message}; {problem.way_out}" for problem in caught.value.problems]
    assert any(words in line for line in told), told


def test_a_machine_that_believes_nobody_is_told_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorities, "BUNDLES", ("/nonexistent/bundle",))
    with pytest.raises(SpecError) as caught:
        api("{address: 'a.com:443', tls: true}", folder)
    assert "no list of authorities" in caught.value.problems[0].message


def test_an_app_that_comes_by_the_api_names_its_authorities() -> None:
    outside = External(host="a.com", port=443, tls=True)
    service = Service(name="api", workload=outside, folder="/", port=443, replicas=0)
    with pytest.raises(UsageError, match="authorities"):
        admit(App(name="app", services=(service,)))


def test_the_host_header_has_no_port_that_https_has_anyhow() -> None:
    assert External(host="a.com", port=443, tls=True).authority == "a.com"
    assert External(host="a.com", port=8443, tls=True).authority == "a.com:8443"
    assert External(host="a.com", port=443).authority == "a.com:443"
