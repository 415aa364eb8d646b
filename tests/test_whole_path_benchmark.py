"""The benchmark of the whole path: its arithmetic, and that each part of it runs. Nothing is timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.whole_path import engines, goals, path, plan, report
from benchmarks.whole_path.records import Record, Results, quantiles_micros, summarise

MACHINE: dict[str, Any] = {
    "processor": "a processor", "cpus": 2, "memory_gib": 8, "system": "Linux", "python": "3",
    "packages": {"numpy": "2"}, "date": "2026-01-01", "rounds": 2, "quick": False,
}  # fmt: skip


def results_of(*records: tuple[str, str, str, dict[str, float]]) -> Results:
    """A record for each; what comes again of a measure, peer and case is another round."""
    seen: dict[tuple[str, str, str], int] = {}
    made = []
    for measure, peer, case, figures in records:
        number = seen[measure, peer, case] = seen.get((measure, peer, case), -1) + 1
        made.append(Record(measure, peer, case, number, figures))
    return Results(MACHINE, made)


TWO_ROUNDS = (
    ("paced", "dora_nb", "8 B", {"p50_micros": 100.0}),
    ("paced", "dora", "8 B", {"p50_micros": 400.0}),
    ("paced", "dora_nb", "8 B", {"p50_micros": 150.0}),
    ("paced", "dora", "8 B", {"p50_micros": 300.0}),
)


def test_a_ratio_compares_what_ran_in_one_round() -> None:
    ratio = results_of(*TWO_ROUNDS).ratio(
        "paced", "8 B", "p50_micros", ours="dora_nb", other="dora"
    )
    assert ratio == (0.375, 0.5)  # and not 125 / 350


def test_a_round_that_one_of_them_lacks_says_nothing() -> None:
    results = results_of(*TWO_ROUNDS[:3])
    ratio = results.ratio("paced", "8 B", "p50_micros", ours="dora_nb", other="dora")
    assert ratio == (0.25, 0.25)
    assert results.ratio("paced", "VGA", "p50_micros", ours="dora_nb", other="dora") is None


def test_the_worst_of_rates_is_the_lowest() -> None:
    assert summarise([3.0, 1.0, 2.0]) == (2.0, 3.0)
    assert summarise([3.0, 1.0, 2.0], higher_is_better=True) == (2.0, 1.0)
    assert summarise([]) is None


def test_quantiles_are_in_microseconds() -> None:
    assert quantiles_micros([1000, 2000, 3000]) == pytest.approx(
        {"p50_micros": 2.0, "p99_micros": 2.98}
    )
    assert quantiles_micros([]) == {}


def test_a_phase_has_figures_of_what_was_counted() -> None:
    planned = [
        plan.Phase("paced", 8, 3, 1, 1, gated=False),
        plan.Phase("paced", 0, 2, 0, 1, gated=False),
        plan.Phase("loop", 8, 3, 1, 1, gated=False),
        plan.Phase("burst", 1000, 4, 0, 1, gated=False),
    ]
    nothing = {"sent_nanos": [], "round_trips": [], "first_nanos": 0}
    sent = [
        {**nothing, "sent": 3},
        {**nothing, "sent": 2, "sent_nanos": [1000, 5000]},
        {**nothing, "sent": 3, "round_trips": [900_000, 7000, 7000]},
        {**nothing, "sent": 4, "first_nanos": 1_000_000_000},
    ]
    silent = {"latencies": [], "received_nanos": [], "last_nanos": 0}
    received = [
        {**silent, "received": 3, "latencies": [900_000, 4000, 4000]},
        {**silent, "received": 2, "received_nanos": [3000, 7000]},
        {**silent, "received": 3},
        {**silent, "received": 2, "last_nanos": 3_000_000_000},
    ]
    paced, without_payload, loop, burst = path.phase_figures(planned, (sent, received))
    assert paced["p50_micros"] == 4.0  # The first was the warm-up.
    assert without_payload["p50_micros"] == 2.0  # By the order, as there is no room for a stamp.
    assert loop["p50_micros"] == 7.0
    assert burst == {
        "messages_per_sec": 1.0, "gb_per_sec": 1e-6, "sent": 4, "received": 2, "dropped": 2,
    }  # fmt: skip


def test_a_plan_covers_every_mode_and_size() -> None:
    planned = plan.phases(("paced", "loop", "burst"), plan.SIZES)
    assert [(phase.mode, phase.size) for phase in planned] == [
        (mode, size) for mode in ("paced", "loop", "burst") for size in plan.SIZES
    ]
    assert all(phase.warmup < phase.count for phase in planned)
    assert json.loads(plan.as_json(planned))[0]["mode"] == "paced"
    shorter = plan.phases(("loop",), (8,), divisor=40)
    assert shorter[0].count < planned[8].count


@pytest.mark.parametrize(
    ("ours", "median_holds", "worst_holds"),
    [
        ((100.0, 100.0), True, True),
        ((100.0, 190.0), False, False),
        ((100.0, 100.0, 150.0), True, False),
    ],
)
def test_a_goal_is_for_the_median_and_gives_a_round_some_room(
    ours: tuple[float, ...], median_holds: bool, worst_holds: bool
) -> None:
    rounds = [
        record
        for micros in ours
        for record in (
            ("paced", "dora_nb", "8 B", {"p50_micros": micros}),
            ("paced", "dora", "8 B", {"p50_micros": 320.0}),
        )
    ]
    (outcome,) = goals.outcomes(results_of(*rounds))
    assert (outcome.median_holds, outcome.worst_holds) == (median_holds, worst_holds)


def test_a_goal_without_another_is_for_the_figure_itself() -> None:
    outcomes = goals.outcomes(results_of(("start", "dora_nb", "1, spares", {"last_millis": 7.0})))
    assert [(each.goal.figure, each.median_holds) for each in outcomes] == [("last_millis", True)]


def test_what_is_slower_comes_first() -> None:
    slow = ("paced", "iceoryx2", "8 B", {"p50_micros": 50.0})
    text = report.text_of(results_of(*TWO_ROUNDS, slow))
    assert text.startswith("### Slower than a peer")
    assert "| Paced, one way | iceoryx2 | 8 B | 2.00 |" in text
    assert "dora-rs | 8 B |" not in text.partition("### Goals")[0]


def test_a_page_is_filled_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    results = results_of(*TWO_ROUNDS)
    report.fill_page(page, results)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| dora_nb / dora-rs | 0.38 (0.50) |" in text
    report.fill_page(page, results)
    assert page.read_text() == text


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = results_of(*TWO_ROUNDS)
    results.write(tmp_path / "deep" / "run.json")
    again = Results.read(tmp_path / "deep" / "run.json")
    assert (again.machine, again.records) == (results.machine, results.records)


@pytest.mark.parametrize(
    "options",
    [
        ("--measures", "path", "--sizes", "0 B", "VGA", "--peers", "dora_nb", "pyzmq", "multiprocessing"),
        ("--measures", "path", "--sizes", "8 B", "--peers", "raw", "dora"),
        ("--measures", "loops", "--sizes", "8 B", "--peers", "dora_nb"),
        ("--measures", "subscriber", "--sizes", "8 B", "--peers", "dora_nb"),
        ("--measures", "types", "--sizes", "8 B", "--peers", "dora_nb"),
        ("--measures", "fan-out", "--sizes", "8 B", "--peers", "dora_nb"),
    ],
    ids=["bare", "dora-rs", "placed", "subscriber", "types", "fan-out"],
)  # fmt: skip
@pytest.mark.soak
def test_it_runs(tmp_path: Path, options: tuple[str, ...]) -> None:
    """In its shortest form; iceoryx2 is left out, which is no part of the tests' environment."""
    file = tmp_path / "run.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.whole_path", "--quick", "--json", str(file), *options],
        env={**os.environ, "MPLCONFIGDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = Results.read(file)
    peers = options[options.index("--peers") + 1 :]
    assert set(peers) <= {record.peer for record in results.records}
    for record in results.records:
        if record.peer in ("dora_nb", "raw") and record.measure != "subscriber VGA 30 Hz":
            assert record.figures.get("dropped", 0) == 0, record
    assert "### " in done.stdout


def test_a_run_of_a_peer_that_lost_its_way_is_made_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes: list[Any] = [engines.RunFailedError("receiver did not report"), {"sender": {}}]

    def run_once(_nodes: object, *, pool_bytes: int | None) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(engines, "_run_once_on_dora", run_once)
    assert engines.run_on_dora([], pool_bytes=None) == {"sender": {}}
    assert "receiver did not report" in capsys.readouterr().err
    outcomes[:] = [engines.RunFailedError(f"{n}") for n in range(3)]
    with pytest.raises(engines.RunFailedError, match="2"):
        engines.run_on_dora([], pool_bytes=None)
