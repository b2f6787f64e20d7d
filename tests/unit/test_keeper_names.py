"""The texts of the private hosts files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.engines.local.names import hosts_text, nsswitch_text

OWN = "# The services of this app, added by Shoal.\n"


@pytest.mark.parametrize(
    ("original", "kept"),
    [
        ("", ""),
        ("127.0.0.1 localhost\n", "127.0.0.1 localhost\n"),
        ("127.0.0.1 localhost", "127.0.0.1 localhost\n"),
        ("# web\n\n::1\tlocalhost  ip6\n", "# web\n\n::1\tlocalhost  ip6\n"),
        ("10.0.0.1 web\n", ""),
        ("10.0.0.1 WEB\n", ""),
        ("10.0.0.1 db web cart # ours\n", "10.0.0.1\tdb # ours\n"),
        ("10.0.0.1 web.example.org webs\n", "10.0.0.1 web.example.org webs\n"),
        ("10.0.0.1 # web\n", "10.0.0.1 # web\n"),
        ("  10.0.0.1\tweb\tx\n", "10.0.0.1\tx\n"),
    ],
)
def test_the_machines_own_lines_stay_but_for_the_apps_names(original: str, kept: str) -> None:
    names = {"web": "127.77.0.2", "cart": "127.77.0.1"}
    assert hosts_text(original, names) == kept + OWN + "127.77.0.1\tcart\n127.77.0.2\tweb\n"


def resolve(text: str, name: str) -> str | None:
    """As the C library reads the file: the first line that mentions the name."""
    for line in text.split("\n"):
        words = line.partition("#")[0].split()
        if name.lower() in (word.lower() for word in words[1:]):
            return words[0]
    return None


words = st.sampled_from(["web", "cart", "Web", "db", "localhost", "host.example.org"])
lines = st.one_of(
    st.builds(
        lambda address, names, comment: f"{address} {' '.join(names)}{comment}",
        st.sampled_from(["127.0.0.1", "10.0.0.1", "::1"]),
        st.lists(words, max_size=4),
        st.sampled_from(["", " # web", "#x"]),
    ),
    st.text(st.characters(exclude_characters="\n"), max_size=20),
)


@given(original=st.lists(lines, max_size=8).map("\n".join), names=st.dictionaries(words, st.just("127.77.0.9")))
def test_every_name_leads_to_its_address_and_all_else_where_it_did(original: str, names: dict[str, str]) -> None:
    text = hosts_text(original, names)
    lower = {name.lower() for name in names}
    for name in ["web", "cart", "db", "localhost", "host.example.org"]:
        assert resolve(text, name) == ("127.77.0.9" if name in lower else resolve(original, name))
    assert hosts_text(text, names) == text


@pytest.mark.parametrize(
    ("original", "hosts"),
    [
        ("hosts: files dns", "hosts: files dns"),
        ("hosts:\tfiles  dns # why", "hosts: files dns"),
        ("hosts: dns files", "hosts: files dns"),
        ("  hosts : dns", "hosts: files dns"),
        ("hosts:", "hosts: files"),
        ("hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns",
         "hosts: files mymachines resolve [!UNAVAIL=return] myhostname dns"),
        ("hosts: dns files [NOTFOUND=return] wins", "hosts: files dns wins"),
        ("hosts: dns files[SUCCESS=continue] [ NOTFOUND = return ] x", "hosts: files dns x"),
        ("hosts: files-extra dns", "hosts: files files-extra dns"),
        ("passwd: files", "passwd: files\nhosts: files dns"),
        ("#hosts: dns", "#hosts: dns\nhosts: files dns"),
        ("", "hosts: files dns"),
    ],
)  # fmt: skip
def test_files_are_asked_first(original: str, hosts: str) -> None:
    assert nsswitch_text(original) == hosts + "\n"
    assert nsswitch_text(hosts + "\n") == hosts + "\n"


sources = st.sampled_from(["files", "dns", "resolve", "myhostname"])
actions = st.sampled_from(["", " [NOTFOUND=return]", " [!UNAVAIL=return]", "[SUCCESS=continue]"])


@given(st.lists(st.builds(str.__add__, sources, actions)))
def test_of_other_sources_none_is_lost_and_none_moved(sources: list[str]) -> None:
    before = f"passwd: files systemd\nhosts: {' '.join(sources)}\nnetworks: files\n"
    passwd, hosts, networks = nsswitch_text(before).splitlines()
    assert (passwd, networks) == ("passwd: files systemd", "networks: files")
    assert hosts.startswith("hosts: files")
    assert hosts.split()[2:] == " ".join(source for source in sources if not source.startswith("files")).split()
    assert nsswitch_text(nsswitch_text(before)) == nsswitch_text(before)
