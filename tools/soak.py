"""`make soak`: random clients and every fault, for an hour or SECONDS, in rounds with a seed each.

TOPOLOGY says what the ledger is: a single Redis (the default), one behind Sentinels, or a cluster.

Each round has servers of its own and ends with all checks.  Exit status 1 when a promise was broken; SEED replays a
round.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
import traceback

from immuproxy.telemetry import logs
from tests.invariants.clients import Report
from tests.invariants.topologies import TOPOLOGIES
from tests.invariants.workload import soak, soak_with_loss

ROUND = 300.0
"""Seconds of load in one round."""

EVERY_WHICH_LOSES = 4
"""One round in so many is with a ledger that is emptied, where that is a single Redis."""


def main() -> int:
    """Run rounds until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="of load, in all (default: an hour)")
    parser.add_argument("--seed", type=int, help="of the first round; later ones count on from it")
    parser.add_argument("--topology", choices=sorted(TOPOLOGIES), default="single", help="of the ledger")
    parser.add_argument("--proxies", type=int, default=3)
    arguments = parser.parse_args()
    logs.configure(level="critical")
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    return rounds(seed, arguments.seconds, topology=arguments.topology, proxies=arguments.proxies)


def rounds(seed: int, seconds: float, *, topology: str, proxies: int) -> int:
    """All rounds; the exit status."""
    ends, requests, broken, failed, number = time.monotonic() + seconds, 0, 0, 0, 0
    while (left := ends - time.monotonic()) > 1 or not number:
        try:
            report = one_round(seed + number, min(ROUND, left), topology=topology, proxies=proxies)
        except Exception:  # noqa: BLE001  # the next round has servers of its own
            traceback.print_exc()
            print(f"seed {seed + number}: the soak itself failed", flush=True)
            failed += 1
        else:
            print(report, flush=True)
            requests += sum(report.operations.values())
            broken += len(report.violations)
        number += 1
    print(f"{number} rounds from seed {seed}: {requests} requests, {broken} violations, {failed} rounds failed")
    return 1 if broken or failed else 0


def one_round(seed: int, seconds: float, *, topology: str, proxies: int) -> Report:
    """The seed also says of which kind the round is."""
    if topology == "single" and seed % EVERY_WHICH_LOSES == 0:
        return asyncio.run(soak_with_loss(seed, seconds))
    return asyncio.run(soak(seed, seconds, topology=topology, proxies=proxies))


if __name__ == "__main__":
    sys.exit(main())
