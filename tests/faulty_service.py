"""``python -m tests.faulty_service NAME=VALUE... OPTIONS...``: the service, with faults.

The names, each of which may be left out:

- ``row_s``: seconds that an image takes longer; the start-up probe reports them too
- ``hang_seed``: a model that is given this seed never returns
- ``hung``: a file that exists when a model hangs
- ``lost_seed``: a model that is given this seed loses its device
- ``probes``: a file to which each process that probes models appends a line for each
- ``silent_s``, ``dead_s``: as of ``app.process.launcher.launch``
"""

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from app.engines.backend import DeviceLostError
from app.engines.engine import Engine
from app.engines.probe import Findings
from app.engines.rows import OperationKey, Result, Row, Sample
from app.process.launcher import launch
from app.settings import read_settings


def install(faults: dict[str, str]) -> None:
    """Have every engine of this process, and of those that it forks, behave so."""
    run, probe = Engine.run, Engine.probe
    row_s = float(faults.get("row_s", 0))

    def faulty_run(
        self: Engine, key: OperationKey, rows: Sequence[Row]
    ) -> list[Result | Exception]:
        seeds = {row.seed for row in rows if isinstance(row, Sample)}
        if int(faults.get("hang_seed", -1)) in seeds:
            if "hung" in faults:
                Path(faults["hung"]).touch()
            time.sleep(3600)
        if int(faults.get("lost_seed", -1)) in seeds:
            raise DeviceLostError("the GPU fails")
        if row_s:
            time.sleep(row_s * len(rows))
        return run(self, key, rows)

    def faulty_probe(self: Engine, names: Iterable[str] | None = None) -> Findings:
        names = list(self.models if names is None else names)
        if "probes" in faults:
            with Path(faults["probes"]).open("a") as file:
                file.writelines(f"{name}\n" for name in names)
        findings = probe(self, names)
        for key, costs in findings.costs.items():
            findings.costs[key] = [(size, seconds + row_s * size) for size, seconds in costs]
        return findings

    Engine.run, Engine.probe = faulty_run, faulty_probe  # type: ignore[method-assign]


def main(arguments: list[str]) -> None:
    faults = {}
    while arguments and not arguments[0].startswith("-"):
        name, _, value = arguments.pop(0).partition("=")
        faults[name] = value
    limits = {name: float(faults.pop(name)) for name in ("silent_s", "dead_s") if name in faults}
    unknown = set(faults) - {"row_s", "hang_seed", "hung", "lost_seed", "probes"}
    assert not unknown, unknown
    install(faults)
    raise SystemExit(launch(read_settings(arguments), **limits))


if __name__ == "__main__":
    main(sys.argv[1:])
