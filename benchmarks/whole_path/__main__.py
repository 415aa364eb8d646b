"""The command: ``python -m benchmarks.whole_path``."""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import dora_nb

from . import engines, graphs, lives, path
from .peers import PEERS
from .plan import SIZE_NAMES, SIZES
from .records import Record, Results
from .report import fill_page, text_of, write_plot

DEFAULT_JSON = Path("build/benchmarks/whole_path.json")
MEASURES = ("path", "loops", "fan-out", "chain", "types", "lives", "subscriber")
_QUICK_DIVISOR = 40
_PACKAGES = ("numpy", "pyarrow", "msgspec", "dora-rs", "iceoryx2", "pyzmq")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, or reports what was measured before."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["report"]:
        report(given[1:])
    else:
        measure(given)


def measure(arguments: Sequence[str]) -> None:
    """Runs the rounds, writes the JSON, and prints the tables."""
    options = _measure_parser().parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 3)
    compile_ours()
    begin_secs = time.monotonic()
    results = Results(machine(options))
    try:
        for number in range(options.rounds):
            for record in one_round(options, number):
                results.records.append(record)
                print(f"{time.monotonic() - begin_secs:6.0f} s  {line_of(record)}", flush=True)
    finally:  # An interrupt after ten minutes is not to lose them.
        results.write(options.json)
    print(f"\n{text_of(results)}")
    write_plot(results, options.json.with_suffix(".png"))
    print(f"{options.json} and {options.json.with_suffix('.png')}")


def compile_ours() -> None:
    """Compiles our modules, as an installation does, since those of the peers are compiled already."""
    for folder in (dora_nb.__path__[0], engines.NODES):
        compileall.compile_dir(folder, quiet=1)


def one_round(options: argparse.Namespace, number: int) -> Iterator[Record]:
    """Every chosen measure of every chosen peer, once."""
    sizes = [size for size in SIZES if SIZE_NAMES[size] in options.sizes]
    divisor = _QUICK_DIVISOR if options.quick else 1
    # Another peer comes first in each round.
    turn = number % len(options.peers)
    peers = options.peers[turn:] + options.peers[:turn]
    yield from path.measure_limits(sizes, number=number, divisor=divisor)
    if "path" in options.measures:
        yield from path.measure_path(peers, sizes, number=number, divisor=divisor)
    if "loops" in options.measures:
        yield from path.measure_loops(peers, sizes, number=number, divisor=divisor)
    of_dataflows = [name for name in ("dora_nb", "dora") if name in peers]
    if "fan-out" in options.measures:
        yield from graphs.measure_fan_out(of_dataflows, number=number, divisor=divisor)
    if "chain" in options.measures:
        yield from graphs.measure_chain(of_dataflows, number=number, divisor=divisor)
    if "types" in options.measures:
        yield from graphs.measure_types(of_dataflows, number=number)
    if "lives" in options.measures:
        yield from lives.measure_lives(of_dataflows, number=number, divisor=divisor)
    if "subscriber" in options.measures and "dora_nb" in peers:
        yield from lives.measure_subscriber(number=number, divisor=divisor)


def report(arguments: Sequence[str]) -> None:
    """Prints the tables of an earlier run, and puts them into a page if that is asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole_path report")
    parser.add_argument("json", type=Path)
    parser.add_argument("--page", type=Path, help="a page with the marks to put the tables between")
    options = parser.parse_args(arguments)
    results = Results.read(options.json)
    if options.page is None:
        print(text_of(results))
        return
    write_plot(results, options.page.with_suffix(".png"))
    fill_page(options.page, results)


def line_of(record: Record) -> str:
    """Returns one record as a line for the terminal."""
    figures = "  ".join(f"{name} {value:,.5g}" for name, value in record.figures.items())
    return f"{record.measure:12} {record.peer:16} {record.case:8} {figures}"


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures were measured on, and how."""
    return {
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "rounds": options.rounds,
        "quick": options.quick,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _measure_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.whole_path",
        description="The whole path of a message, beside every peer. "
        "'report FILE.json' prints an earlier run again.",
    )
    parser.add_argument("--quick", action="store_true", help="a short check that it works")
    parser.add_argument("--rounds", type=int, help="number of rounds (3; 1 if quick)")
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    names = list(SIZE_NAMES.values())
    parser.add_argument("--sizes", nargs="+", choices=names, default=names, metavar="SIZE")
    parser.add_argument("--json", type=Path, default=DEFAULT_JSON, help="where the figures go")
    return parser


if __name__ == "__main__":
    main()
