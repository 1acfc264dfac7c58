"""`make audit-check`: the audit held against what was, for ten minutes or SECONDS of load and disturbances.

In rounds with a seed and servers of their own.  Exit status 1 when the audit told something else; SEED replays a round.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
import traceback

from immuproxy.telemetry import logs
from tests.auditor.load import audited

ROUND = 300.0
"""Seconds of load in one round."""


def main() -> int:
    """Run rounds until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of load, in all (default: ten minutes)")
    parser.add_argument("--seed", type=int, help="of the first round; later ones count on from it")
    arguments = parser.parse_args()
    logs.configure(level="critical")
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    return rounds(seed, arguments.seconds)


def rounds(seed: int, seconds: float) -> int:
    """All rounds; the exit status."""
    left, requests, wrong, failed, number = seconds, 0, 0, 0, 0
    while left > 1 or not number:
        began = time.monotonic()
        try:
            report = asyncio.run(audited(seed + number, min(ROUND, left)))
        except Exception:  # noqa: BLE001  # the next round has servers of its own
            traceback.print_exc()
            print(f"seed {seed + number}: the check itself failed", flush=True)
            failed += 1
            left -= time.monotonic() - began
        else:
            print(report, flush=True)
            requests += report.requests
            wrong += len(report.violations)
            left -= ROUND
        number += 1
    print(f"{number} rounds from seed {seed}: {requests} requests, {wrong} violations, {failed} rounds failed")
    return 1 if wrong or failed else 0


if __name__ == "__main__":
    sys.exit(main())
