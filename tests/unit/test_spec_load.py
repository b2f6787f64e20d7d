# ruff: noqa: E501  a table with one case a line
"""The app file, from text to model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shoal.errors import UsageError
from shoal.model.app import App, Command, Gateway, Names, PythonApp, Route, Service
from shoal.model.resources import Database, Keeping
from shoal.spec.load import app_from_target, load_app, load_text
from shoal.spec.problems import SpecError
from shoal.spec.schema import AppFile, json_schema
from shoal.spec.wire import decode, encode

FOLDER = Path("/")
HOST = "box.example.com"


def load(text: str, **environ: str) -> App:
    return load_text(text.encode(), "shoal.yaml", FOLDER / "srv", environ, HOST)


def problems(text: str, **environ: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(text, **environ)
    return [str(problem) for problem in caught.value.problems]


def one(entry: str, **environ: str) -> Service:
    """The only service of an app, given as the text of its mapping."""
    return load(f"services: {{web: {entry}}}", **environ).services[0]


def test_the_smallest_app() -> None:
    app = load("services: {hello: {run: hello:app, port: 8080}}")
    hello = Service(
        name="hello", workload=PythonApp(module="hello", attribute="app"), folder="/srv", port=8080, publish=True
    )
    assert app == App(name="srv", services=(hello,), folder="/srv")


def test_every_key_reaches_the_model(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "shoal.yaml").write_text(
        """\
app: shop
services:
  users:
    run: shop.users:app
    cwd: sub
    port: 3000
    publish: false
    replicas: 3
    env: {LEVEL: info, PORT_WRITTEN: "${port}"}
    health: /healthz
    names: env
  carts:
    command: [node, server.js, "${users.url}"]
    port: 3000
    calls: [users]
    after: [users]
  mailer:
    command: python mailer.py
gateway:
  port: 8080
  routes:
    /users/: users
    Shop.localhost/carts: carts
"""
    )
    app = load_app(tmp_path, {}, HOST)
    assert app == App(
        name="shop",
        folder=str(tmp_path),
        services=(
            Service(
                name="users",
                workload=PythonApp(module="shop.users", attribute="app"),
                folder=str(tmp_path / "sub"),
                port=3000,
                replicas=3,
                env=(("LEVEL", "info"), ("PORT_WRITTEN", "${port}")),
                health="/healthz",
                names=Names.ENV,
            ),
            Service(
                name="carts",
                workload=Command(argv=("node", "server.js", "${users.url}")),
                folder=str(tmp_path),
                port=3000,
                calls=("users",),
                after=("users",),
            ),
            Service(name="mailer", workload=Command(argv=("/bin/sh", "-c", "python mailer.py")), folder=str(tmp_path)),
        ),
        gateway=Gateway(
            port=8080,
            routes=(
                Route(service="users", path="/users"),
                Route(service="carts", path="/carts", host="shop.localhost"),
            ),
        ),
    )
    assert decode(App, encode(app)) == app


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5", "5"),
        ("0777", "0777"),
        ("1.10", "1.10"),
        ("true", "true"),
        ("True", "True"),
        ("yes", "yes"),
        ("3000:3000", "3000:3000"),
        ("1e3", "1e3"),
        ("0x1F", "0x1F"),
        (".inf", ".inf"),
        ("2026-01-01", "2026-01-01"),
        ("''", ""),
        ("!!str 12", "12"),
        ("'a: b'", "a: b"),
        ("$HOME", "$HOME"),
        ("$$HOME", "$HOME"),
        ("$PORT", "${port}"),
        ("'${PORT}'", "${port}"),
        ("$PORTAL", "$PORTAL"),
        ("'$${NAME}'", "${NAME}"),
        ("'${SET}!'", "value!"),
        ("'${UNSET:-a:-b}'", "a:-b"),
        ("'${EMPTY:-x}'", "x"),
        ("'${EMPTY}'", ""),
        ("'${UNSET:-}'", ""),
        ("'${web.url}/v1'", "${web.url}/v1"),
    ],
)
def test_a_variable_is_text_as_it_is_written(written: str, value: str) -> None:
    service = one(f"{{run: 'a:b', port: 1, calls: [web], env: {{X: {written}}}}}", SET="value", EMPTY="")
    assert service.env == (("X", value),)


@pytest.mark.parametrize(
    ("written", "argv"),
    [
        ('"node server.js --port ${port} $PORT ${X:-1} $$"', ("/bin/sh", "-c", "node server.js --port ${port} $PORT ${X:-1} $$")),
        ('[serve, "${port}", $PORT, "${HOME}", "$$"]', ("serve", "${port}", "${port}", "/root", "$")),
    ],
)  # fmt: skip
def test_a_shell_keeps_its_variables_and_a_list_has_them_filled_in(written: str, argv: tuple[str, ...]) -> None:
    assert one(f"{{command: {written}, port: 1}}", HOME="/root").workload == Command(argv=argv)


@pytest.mark.parametrize(
    ("ports", "published"),
    [
        ("a: {port: 1}, b: {port: 2}", {"a", "b"}),
        ("a: {port: 1}, b: {port: 1}", set()),
        ("a: {port: 1, publish: true}, b: {port: 1}", {"a"}),
        ("a: {port: 1, publish: false}, b: {port: 2}", {"b"}),
        ("a: {port: 9}, b: {port: 2}", {"b"}),
        ("a: {}, b: {port: 2}", {"b"}),
    ],
)
def test_a_port_is_published_when_nobody_else_wants_it(ports: str, published: set[str]) -> None:
    text = ports.replace("{", "{command: x, ").replace(", }", "}")
    app = load(f"services: {{{text}}}\ngateway: {{port: 9, routes: {{/: b}}}}")
    assert {service.name for service in app.services if service.publish} == published


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: the file is empty"),
        ("# nothing", "1:1: the file is empty"),
        ("[]", "1:1: the file must hold keys and values"),
        ("a: b: c", "1:5: not YAML: mapping values are not allowed here"),
        ("a: [", "1:5: not YAML: while parsing a flow node"),
        ("a: \x07", "1:4: the character U+0007 cannot be in YAML"),
        ('a: "\\UFFFFFFFF"', "1:1: not YAML"),
        ("a: !!python/object/apply:os.system [x]", "1:4: the tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !!int x", "1:4: 'x' is no !!int"),
        ("a: *b", "1:4: there is no anchor &b before this"),
        ("a: &b [*b]", "1:8: *b is part of itself"),
        ("a: 1\n---\nb: 1", "2:1: a second document starts here"),
        ("[1]: 2", "1:1: a key must be a plain word"),
        ("services: {}\nservices: {}", "2:1: the key 'services' is here twice, first on line 1"),
        ("<<: 1", "1:1: '<<' takes a mapping"),
        ("services: " + "[" * 60, "1:60: the file is nested deeper than 50 levels"),
    ],
)  # fmt: skip
def test_what_is_no_yaml_or_too_much_of_it_is_said_first(text: str, expected: str) -> None:
    found = problems(text)
    assert any(expected in line for line in found), found


WEB = "{run: 'a:b', port: 1}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("services: []", "1:11: services: must be a mapping of keys and values"),
        ("services: {}", "1:1: the app has no services"),
        ("services:", "1:1: services: has no value"),
        (f"service: {{web: {WEB}}}", "1:1: service: unknown key; did you mean 'services'?"),
        (f"app: Shop\nservices: {{web: {WEB}}}", "1:6: app: must be made of"),
        (f"app: 5\nservices: {{web: {WEB}}}", "1:6: app: must be text"),
        (f"services: {{Web: {WEB}}}", "1:12: services.Web: the name 'Web' is not made of lower case letters, digits and '-' (at most 63); write 'web'"),
        (f"services: {{localhost: {WEB}}}", "1:12: services.localhost: the name 'localhost' is taken"),
        (f"services: {{daemon: {WEB}}}", "1:12: services.daemon: the name 'daemon' is taken"),
        (f"services: {{box: {WEB}}}", "1:12: services.box: the name 'box' is this machine's own name"),
        (f"services: {{127: {WEB}}}", "1:12: services.127: the name '127' would be taken for an IP address"),
        (f"services: {{'a b': {WEB}}}", "1:12: services.'a b': the name 'a b' is not made of"),
        ("services: {web: }", "1:12: services.web: has no value"),
        ("services: {web: 5}", "1:17: services.web: must be a mapping"),
        ("services: {web: {port: 1}}", "1:12: services.web: nothing to run; add 'run: module:attribute'"),
        ("services: {web: {run: 'a:b', command: x, port: 1}}", "1:30: services.web.command: a service has either"),
        ("services: {web: {run: 'a:b'}}", "1:18: services.web.run: an application needs a port"),
        ("services: {web: {run: a, port: 1}}", "1:23: services.web.run: does not say which object of the module is the application; write a:app"),
        ("services: {web: {run: 'shop/users.py:app', port: 1}}", "is a path, and a module's name is needed; write shop.users:app"),
        ("services: {web: {run: 'a:b()', port: 1}}", "is no module and attribute"),
        ("services: {web: {run: 'a.class:b', port: 1}}", "is no module and attribute"),
        ("services: {web: {run: 5, port: 1}}", "must be text like shop.users:app"),
        ("services: {web: {command: ''}}", "services.web.command: is empty"),
        ("services: {web: {command: []}}", "services.web.command: names no program"),
        ("services: {web: {command: [a, 5]}}", "services.web.command: must be text, or a list of texts"),
        ("services: {web: {command: x, cwd: nowhere}}", "services.web.cwd: '/srv/nowhere' does not exist"),
        ("services: {web: {command: x, port: 0}}", "1:36: services.web.port: must be a whole number from 1 to 65535"),
        ("services: {web: {command: x, port: true}}", "services.web.port: must be a whole number"),
        ("services: {web: {command: x, port: '80'}}", "must be a whole number from 1 to 65535; write it without quotes"),
        ("services: {web: {command: x, port: " + "9" * 5000 + "}}", "services.web.port: must be a whole number"),
        ("services: {web: {command: x, replicas: 101}}", "services.web.replicas: must be a whole number from 0 to 100"),
        ("services: {web: {command: x, publish: true}}", "1:30: services.web.publish: there is no port to publish"),
        ("services: {web: {command: x, port: 1, publish: yes}}", "must be true or false; did you mean true?"),
        ("services: {web: {command: x, health: /}}", "services.web.health: without a port there is nothing to ask"),
        ("services: {web: {command: x, port: 1, health: healthz}}", "must be a path that starts with /; write /healthz"),
        ("services: {web: {command: x, port: 1, health: '/a b'}}", "must be a path as it stands in a request"),
        ("services: {web: {command: x, names: dns}}", "services.web.names: must be auto or env"),
        ("services: {web: {command: x, calls: db}}", "services.web.calls: must be a list of services; write [db]"),
        ("services: {web: {command: x, calls: [wep]}}", "1:38: services.web.calls[0]: there is no service 'wep'; did you mean 'web'?"),
        ("services: {web: {command: x, calls: [db]}, db: {command: y}}", "'db' has no port, so it cannot be called"),
        ("services: {web: {command: x, calls: [db, db]}, db: {command: y, port: 1}}", "1:42: services.web.calls[1]: 'db' is named twice"),
        ("services: {web: {command: x, after: [db]}, db: {command: y, replicas: 0}}", "'db' has replicas: 0 and never gets ready"),
        ("services: {web: {command: x, after: [web]}}", "1:30: services.web.after: each of these waits for the next for ever: web -> web"),
        ("services: {a: {command: x, after: [b]}, b: {command: x, after: [c]}, c: {command: x, after: [a]}}", "a -> b -> c -> a"),
        ("services: {web: {command: x, prot: 1}}", "1:30: services.web.prot: unknown key; did you mean 'port'?"),
        ("services: {web: {command: x, slow: pg}}", "unknown key; known: run, command,"),
        ("services: {web: {command: x, secrets: {TOKEN: 5}}}", "services.web.secrets.TOKEN: must be a mapping"),
        ("services: {web: {command: x, secrets: [db-password]}}", "a secret's name is made of capitals, digits and '_'; write DB_PASSWORD"),
        ("secrets: {SEED: {generate: 8}}\nservices: {web: {command: x}}", "must be a number of bytes from 16 to 512"),
        ("services: {web: {command: 'x ${secret.TOKEN}'}}", "a secret in a command line can be seen by everybody"),
        ("services: {web: {command: x, database: postgress}}", "there is no resource 'postgress'; did you mean 'postgres'?"),
        ("services: {web: {command: x, database: '${FOO}'}}", "1:41: services.web.database: the variable FOO is not set"),
        ("services: {web: {command: x, database: '${FOO:-postgress}'}}", "1:40: services.web.database: there is no resource 'postgress'"),
        ("services: {web: {command: x, uses: ['${FOO}']}}", "services.web.uses[0]: the variable FOO is not set"),
        ("services: {web: {command: x, uses: [natz]}}", "there is no resource 'natz'; did you mean 'nats'?"),
        ("services: {postgres: {command: x}, web: {command: x, database: postgres}}", "and there is a service or a job of that name"),
        ("resources: {db: {}}\nservices: {web: {command: x}}", "resources.db: its kind is missing; add 'kind'"),
        ("jobs: {seed: {command: x, database: {of: wob}}}\nservices: {web: {command: x, database: sqlite}}", "did you mean 'web'?"),
        ("services: {web: {command: x, migrate: {timeout: 5m}}}", "services.web.migrate: 'command' is missing"),
        ("services: {web: {command: x, env: [A=1]}}", "services.web.env: must be a mapping"),
        ("services: {web: {command: x, env: {A: }}}", "services.web.env.A: has no value; write '' for an empty one"),
        ("services: {web: {command: x, env: {A: [1]}}}", "services.web.env.A: must be text, a number, true or false"),
        ("services: {web: {command: x, env: {'A=B': 1}}}", "'A=B' cannot be a variable's name"),
        ("services: {web: {command: x, env: {A: '${FOO}'}}}", "1:40: services.web.env.A: the variable FOO is not set; set it, or write ${FOO:-default}"),
        ("services: {web: {command: x, env: {A: '12${FOO}'}}}", "1:42: services.web.env.A: the variable FOO"),
        ("services: {web: {command: x, env: {A: ${FOO}}}}", "within { } and [ ], put a value that has ${...} in quotes"),
        ("services: {web: {command: x, env: {A: '${FOO'}}}", "'${' without '}'"),
        ("services: {web: {command: x, env: {A: '${A:-${B}}'}}}", "references cannot be nested"),
        ("services: {web: {command: x, env: {A: '${a b}'}}}", "'${a b}' is no reference"),
        ("services: {web: {command: x, port: 1, env: {A: '$${port}'}}}", "a literal $PORT, ${port} or ${service.part} cannot be"),
        ("services: {web: {command: x, env: {A: '${port}'}}}", "refers to the port, and the service has none"),
        ("services: {web: {command: x, env: {A: '${db.url}'}}}", "there is no service 'db'"),
        ("services: {web: {command: x, env: {A: '${db.url}'}}, db: {command: y, port: 1}}", "'db' is not in 'calls'; add it: calls: [db]"),
        ("services: {web: {command: x, calls: [db], env: {A: '${db.prot}'}}, db: {command: y, port: 1}}", "a service has no 'prot'; did you mean 'port'?"),
        ("services: {web: {command: 'x ${db.url}'}}", "1:30: services.web.command: there is no service 'db'"),
        ("services: {web: {command: [x, '${db.url}']}}", "services.web.command[1]: there is no service 'db'"),
        ("services: {a: {command: x, port: 1, publish: true}, b: {command: x, port: 1, publish: true}}", "services.b.publish: port 1 is also published by 'a'"),
        ("services: {a: {command: x, port: 1, publish: true}}\ngateway: {port: 1, routes: {/: a}}", "services.a.publish: port 1 is also published by the gateway"),
        (f"services: {{web: {WEB}}}\ngateway: {{routes: {{/: web}}}}", "2:1: gateway: 'port' is missing"),
        (f"services: {{web: {WEB}}}\ngateway: {{port: 2, routes: {{}}}}", "2:1: gateway: 'routes' is missing"),
        (f"services: {{web: {WEB}}}\ngateway: {{port: 2, routes: {{/: wbe}}}}", "2:32: gateway.routes.'/': there is no service 'wbe'; did you mean 'web'?"),
        (f"services: {{web: {WEB}}}\ngateway: {{port: 2, routes: {{users: web}}}}", "gateway.routes.users: a route has a path, which starts with /"),
        (f"services: {{web: {WEB}}}\ngateway: {{port: 2, routes: {{/a: web, /a/: web}}}}", "gateway.routes.'/a/': this is the same as the route to 'web'"),
        (f"services: {{web: {WEB}}}\ngateway: {{port: 2, routes: {{'/a?b': web}}}}", "a path is as it stands in a request"),
        (f"services: {{web: {WEB}}}\ngateway: {{port: 2, routes: {{/a/../b: web}}}}", "a path has no empty parts"),
        (f"services: {{web: {WEB}}}\ngateway: {{port: 2, routes: {{'a:80/': web}}}}", "'a:80' is no host name"),
        ("services: {web: {command: x}}\ngateway: {port: 2, routes: {/: web}}", "'web' has no port, so it cannot be called"),
    ],
)  # fmt: skip
def test_a_wrong_file_says_what_and_where(text: str, expected: str) -> None:
    found = problems(text)
    assert any(expected in line for line in found), found
    assert len(found) == 1, found


def test_the_machine_says_where_data_is_kept() -> None:
    entry = "{command: x, database: '${SHOP_DATABASE:-postgres}', uses: ['${QUEUE:-nats}']}"
    kept = load(f"services: {{web: {entry}}}").services[-1]
    assert kept.database is not None
    assert (kept.database.keeping, [use.name for use in kept.uses]) == ("postgres", ["nats"])
    in_a_file = load(f"services: {{web: {entry}}}", SHOP_DATABASE="sqlite", QUEUE="redis")
    assert [service.name for service in in_a_file.services] == ["redis", "web"]
    assert in_a_file.services[-1].database == Database(keeping=Keeping.SQLITE, owner="web")


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    found = problems(
        """\
services:
  web:
    run: shop/web.py
    prot: 8080
    calls: [dbb]
  db:
    command: postgres
    port: 70000
    after: [db]
gateway:
  routes: {/: wbe}
"""
    )
    assert found == [
        "shoal.yaml:3:10: services.web.run: is a path, and a module's name is needed; write shop.web:app",
        "shoal.yaml:4:5: services.web.prot: unknown key; did you mean 'port'?",
        "shoal.yaml:5:13: services.web.calls[0]: there is no service 'dbb'; did you mean 'db'?",
        "shoal.yaml:8:11: services.db.port: must be a whole number from 1 to 65535",
        "shoal.yaml:9:5: services.db.after: each of these waits for the next for ever: db -> db; remove one",
        "shoal.yaml:10:1: gateway: 'port' is missing; add it: port: 8080",
        "shoal.yaml:11:15: gateway.routes.'/': there is no service 'wbe'; did you mean 'web'?",
    ]


def test_the_error_shows_the_line_with_a_caret() -> None:
    with pytest.raises(SpecError) as caught:
        load("services:\n  web:\n    command: x\n    prot: 80\n")
    assert caught.value.detail == (
        "shoal.yaml:4:5: services.web.prot: unknown key; did you mean 'port'?\n        4 |     prot: 80\n"
        "                ^"
    ).replace("        4 |", "    4 |").replace("                ^", "            ^")
    assert caught.value.exit_code == 2


def test_a_caret_stays_below_its_column_in_long_lines_and_behind_tabs() -> None:
    with pytest.raises(SpecError) as caught:
        load("services: {web: {command: x, env: {A: '" + "\t" + "x" * 500 + "${FOO}'}}}")
    source, caret = caught.value.problems[0].excerpt()
    assert source[caret.index("^") :].startswith("${FOO}")
    assert len(source) < 130


def test_anchors_and_merges_are_written_out() -> None:
    app = load(
        """\
services:
  a: &base {command: x, port: 1, env: &env {LEVEL: info, A: 1}}
  b: {<<: *base, port: 2, env: {<<: [*env, {B: 3}], A: 2}}
"""
    )
    b = app.service("b")
    assert (b.workload, b.port, b.env) == (
        Command(argv=("/bin/sh", "-c", "x")),
        2,
        (("A", "2"), ("LEVEL", "info"), ("B", "3")),
    )


@pytest.mark.parametrize("shape", ["list", "merge"])
def test_a_bomb_of_aliases_is_refused(shape: str) -> None:
    lines = ["a0: &a0 {x: 1}" if shape == "merge" else "a0: &a0 [x]"]
    for i in range(1, 40):
        pair = f"*a{i - 1}, *a{i - 1}"
        lines.append(f"a{i}: &a{i} " + (f"{{<<: [{pair}]}}" if shape == "merge" else f"[{pair}]"))
    (found,) = problems("\n".join(lines))
    assert "with its aliases written out, the file has more than 10,000 values" in found


def test_a_large_file_and_one_that_is_no_text_are_refused() -> None:
    with pytest.raises(SpecError) as caught:
        load_text(b"#" * 1_000_001, "shoal.yaml", FOLDER, {}, HOST)
    assert "larger than 1 MB" in str(caught.value.problems[0])
    with pytest.raises(SpecError) as caught:
        load_text(b"services:\n  w\xff", "shoal.yaml", FOLDER, {}, HOST)
    assert (caught.value.problems[0].line, caught.value.problems[0].column) == (2, 4)


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter() -> None:
    assert load("\ufeffservices:\r\n  web:\r\n    command: x\r\n").services[0].name == "web"


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no app file"):
        load_app(tmp_path, {}, HOST)
    (tmp_path / "shoal.yml").touch()
    with pytest.raises(UsageError, match=r"rename .*shoal\.yml to shoal\.yaml"):
        load_app(tmp_path, {}, HOST)


@pytest.mark.parametrize(
    ("target", "name"), [("hello:app", "hello"), ("shop.user_api:app", "user-api"), ("_:app", "web"), ("box:app", "web")]
)  # fmt: skip
def test_one_application_needs_no_file(target: str, name: str, tmp_path: Path) -> None:
    app = app_from_target(target, tmp_path, hostname=HOST)
    service = app.services[0]
    assert (service.name, service.port, service.publish, service.folder) == (name, 8080, True, str(tmp_path))
    assert app_from_target(target, tmp_path, 9000).services[0].port == 9000


@pytest.mark.parametrize("target", ["hello", "hello.py:app", "", ":", "a:b:c", "./hello:app"])
def test_a_target_that_names_no_application_is_refused(target: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        app_from_target(target, tmp_path)


def test_the_json_schema_knows_every_key_and_no_null() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) == set(AppFile.model_fields)
    service = schema["$defs"]["ServiceFile"]
    assert service["additionalProperties"] is False
    assert service["properties"]["port"]["maximum"] == 65535
    assert "null" not in json.dumps(schema)


def test_a_linked_app_file_belongs_to_the_folder_of_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/shoal.yaml").write_text("services: {web: {command: x}}")
    (tmp_path / "shoal.yaml").symlink_to("real/shoal.yaml")
    assert load_app(tmp_path, {}, HOST).folder == str(tmp_path)
