"""`make sim SEED=n`: one simulated life, or `--seeds a-b` many."""

from __future__ import annotations

import argparse

from tests.sim.world import simulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", help="a range: 0-999")
    wanted = parser.parse_args()
    if wanted.seeds:
        first, last = map(int, wanted.seeds.split("-"))
        for seed in range(first, last + 1):
            simulate(seed)
        print(f"seeds {first} to {last}: every invariant held, and each converged")
    else:
        simulate(wanted.seed or 0)
        print(f"seed {wanted.seed or 0}: every invariant held, and it converged")


main()
