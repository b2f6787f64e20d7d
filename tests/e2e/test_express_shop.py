"""Three Express files that hard-code their ports, three replicas of each."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_hello import curl
from tests.support.plane import plane
from tests.support.prober import Kind, prober

pytestmark = pytest.mark.integration

Example = Callable[[str], tuple[Path, dict[int, int]]]

SERVICES = {"user-service": (3000, "/users/me"), "product-service": (3001, "/products"), "cart-service": (3002, "/")}
DRIVER = """
// As much of MongoDB's driver as the store uses, in memory.
class Collection {
  constructor() { this.all = new Map(); }
  async insertOne(one) {
    if (this.all.has(one._id)) throw Object.assign(new Error("duplicate"), { code: 11000 });
    this.all.set(one._id, one);
  }
  async findOne({ _id }) { return this.all.get(_id) ?? null; }
  find() { return { sort: () => ({ toArray: async () => [...this.all.values()] }) }; }
  async deleteOne({ _id }) { this.all.delete(_id); }
  async findOneAndUpdate({ _id }, { $inc }, options) {
    if (!options.upsert || options.returnDocument !== "after") throw new Error("not as wanted");
    const last = (this.all.get(_id)?.last ?? 0) + $inc.last;
    this.all.set(_id, { _id, last });
    return { _id, last };
  }
}
exports.MongoClient = class {
  constructor(url) { if (url !== "mongodb://here/shop") throw new Error(url); this.all = {}; }
  db() { return { collection: (name) => (this.all[name] ??= new Collection()) }; }
};
"""
STORE = """
const { open } = require("./store");
(async () => {
  const things = open("things");
  const made = await Promise.all([things.insert({ n: "a" }), things.insert({ n: "b" })]);
  await things.remove(made[1].id);
  const third = await things.insert({ n: "c" });
  const keyed = [await things.get("no such"), await open("keys").insert({ k: 1 }, "../x"),
    await open("keys").insert({ k: 2 }, "../x"), await open("keys").get("../x")];
  console.log(JSON.stringify({ made, third, list: await things.list(), gone: await things.get(made[1].id), keyed }));
})();
"""
RACE = """
const { open } = require("./store");
(async () => { for (let i = 0; i < 200; i++) await open("things").insert({ by: process.pid }); })();
"""


@pytest.fixture
def shop(example: Example) -> tuple[Path, dict[int, int]]:
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}")
    return example("express-shop")


def install(folder: Path) -> None:
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent"],
        cwd=folder,
        env=os.environ | {"npm_config_update_notifier": "false"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (folder / "package-lock.json").exists()  # it would name where this machine gets its packages


def post(url: str, body: dict[str, Any]) -> Any:
    return json.loads(curl("-H", "content-type: application/json", "-d", json.dumps(body), url))


def test_three_replicas_of_each_hard_coded_port_answer_alike(shop: tuple[Path, dict[int, int]]) -> None:
    folder, ports = shop
    install(folder)
    gateway = f"http://localhost:{ports[8088]}"
    with plane(folder) as shoal:
        shoal.up()
        for service, (port, path) in SERVICES.items():
            heads = [curl("-D", "-", "-o", "/dev/null", f"localhost:{ports[port]}{path}") for _ in range(40)]
            told = Counter(re.findall(r"x-shoal-replica: (\S+)", "".join(heads)))
            assert set(told) == {f"{service}-r{number}" for number in (1, 2, 3)} and told.total() == 40, told

        assert post(f"{gateway}/register", {"name": "ada", "password": "correct horse"}) == {"name": "ada"}
        assert "taken" in post(f"{gateway}/register", {"name": "ada", "password": "correct horse"})["error"]
        token = post(f"{gateway}/login", {"name": "ada", "password": "correct horse"})["token"]
        for _ in range(12):  # whichever replica it is
            me = curl("-H", f"authorization: Bearer {token}", f"{gateway}/users/me")
            assert json.loads(me) == {"name": "ada"}

        made = [post(f"{gateway}/products", {"name": f"net {n}", "price_cents": 500})["id"] for n in range(1, 13)]
        assert made == list(range(1, 13))

        if shoal.status()["names"] == "names":
            cart = post(f"{gateway}/carts", {"product_id": 2, "quantity": 3})
            assert (cart["name"], cart["total_cents"]) == ("net 2", 1500)
            assert all(json.loads(curl(f"{gateway}/carts/{cart['id']}")) == cart for _ in range(6))
            for _ in range(2):
                assert "204" in curl("-i", "-X", "DELETE", f"{gateway}/carts/{cart['id']}").splitlines()[0]
            assert "no cart" in curl(f"{gateway}/carts/{cart['id']}")

        victim, before = shoal.pids()["product-service-r1"], last(shoal.events())
        with prober(gateway, get="/products/1", kinds=[Kind.GET]) as probe:
            os.kill(victim, 9)
            shoal.wait_for_event("ReplicaReady", within_s=30, after=before)
        probe.assert_nothing_lost(kinds=[Kind.GET])


def last(events: list[dict[str, Any]]) -> int:
    return max(int(event["sequence"]) for event in events)


@pytest.mark.parametrize("where", ["in files", "in MongoDB"])
def test_the_store_keeps_records(shop: tuple[Path, dict[int, int]], where: str) -> None:
    folder, _ = shop
    env = os.environ | {"SHOAL_DATA_DIR": str(folder / "kept")}
    if where == "in MongoDB":
        (folder / "node_modules" / "mongodb").mkdir(parents=True)
        (folder / "node_modules" / "mongodb" / "index.js").write_text(DRIVER)
        env["MONGODB_URL"] = "mongodb://here/shop"
    done = subprocess.run(["node", "-e", STORE], cwd=folder, env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {
        "made": [{"id": 1, "n": "a"}, {"id": 2, "n": "b"}],
        "third": {"id": 3, "n": "c"},
        "list": [{"id": 1, "n": "a"}, {"id": 3, "n": "c"}],
        "gone": None,
        "keyed": [None, {"id": "../x", "k": 1}, None, {"id": "../x", "k": 1}],
    }


def test_no_two_replicas_take_the_same_id(shop: tuple[Path, dict[int, int]]) -> None:
    folder, _ = shop
    env = os.environ | {"SHOAL_DATA_DIR": str(folder / "kept")}
    racers = [subprocess.Popen(["node", "-e", RACE], cwd=folder, env=env) for _ in range(3)]
    assert [racer.wait(60) for racer in racers] == [0, 0, 0]
    kept = [json.loads(path.read_text()) for path in (folder / "kept" / "things").iterdir()]
    assert sorted(record["id"] for record in kept) == list(range(1, 601))
    assert sorted(Counter(record["by"] for record in kept).values()) == [200, 200, 200]
