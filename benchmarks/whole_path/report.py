"""The tables, the plot and the page, made from the records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .goals import Outcome, outcomes
from .peers import LABELS, OURS
from .plan import SIZE_NAMES
from .records import Results, Summary

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
_SIZES = list(SIZE_NAMES.values())
_TITLES = {
    "paced": ("Paced, one way", "p50_micros", "µs"),
    "loop/one": ("Closed loop, all on one CPU", "p50_micros", "µs"),
    "loop/two": ("Closed loop, each end on a CPU of its own", "p50_micros", "µs"),
    "loop/free": ("Closed loop, left to the scheduler", "p50_micros", "µs"),
    "burst": ("Burst", "messages_per_sec", "messages/s"),
    "fan-out VGA": ("One frame of VGA to several readers, by their number", "p50_micros", "µs"),
    "chain 1 KB": ("1 KB through a chain, by the number of its links", "p50_micros", "µs"),
    "types": ("Closed loop of Arrow's types, on one CPU: eight boxes", "p50_micros", "µs"),
    "start": ("From the start to the last operator's first event", "last_millis", "ms"),
    "edit": ("From an edit to the first event of the new code", "first_millis", "ms"),
    "memory": ("Memory of an operator", "rss_mib", "MiB resident"),
    "idle": ("Ten operators that do nothing, and their kernel", "cpu_percent", "% of a CPU"),
    "subscriber VGA 30 Hz": ("The kernel as a reader, 95th percentile", "p95_micros", "µs"),
}
_PLOTTED = 5
"""The first of them have a size on their axis."""
Rows = list[list[str]]


def text_of(results: Results) -> str:
    """All tables, as Markdown."""
    parts = [slower_table(results), goal_table(results)]
    for measure in _TITLES:
        parts.append(figure_table(results, measure))
        if measure == "burst":
            parts.append(counts_table(results))
    parts.append(machine_text(results))
    return "\n\n".join(part for part in parts if part)


def goal_table(results: Results) -> str:
    """Each goal with the median and the worst round; what misses is marked."""
    rows: Rows = [["goal", "case", "is to be", "median", "worst round", ""]]
    for outcome in outcomes(results):
        assert outcome.reached is not None
        sign = "≥" if outcome.goal.higher_is_better else "≤"
        rows.append(
            [
                outcome.goal.title,
                outcome.case,
                f"{sign} {outcome.limit:g}",
                short(outcome.reached.median),
                short(outcome.reached.worst),
                _verdict(outcome),
            ]
        )
    return section("Goals", rows)


def slower_table(results: Results) -> str:
    """Where a peer was quicker than dora_nb, or had the higher rate, by the medians of the ratios."""
    rows: Rows = [["measure", "peer", "case", "dora_nb / peer"]]
    for measure, (title, figure, _unit) in _TITLES.items():
        higher = figure == "messages_per_sec"
        for peer in results.peers(measure):
            for case in results.cases(measure):
                ratio = results.ratio(
                    measure, case, figure, ours=OURS, other=peer, higher_is_better=higher
                )
                if (
                    ratio
                    and peer in LABELS
                    and peer not in (OURS, "limit")
                    and _loses(ratio, higher)
                ):
                    rows.append([title, LABELS[peer], case, short(ratio.median)])
    return section("Slower than a peer", rows)


def figure_table(results: Results, measure: str) -> str:
    """One measure: a row for each peer, a column for each size; the median, and the worst round."""
    title, figure, unit = _TITLES[measure]
    measured = results.cases(measure)
    sizes = [size for size in _SIZES if size in measured] or measured
    higher = figure == "messages_per_sec"
    rows: Rows = [[unit, *sizes]]
    for peer in LABELS:
        cells = [
            results.summary(measure, peer, size, figure, higher_is_better=higher) for size in sizes
        ]
        if any(cells):
            rows.append([LABELS[peer], *(both(cell) for cell in cells)])
        if peer != OURS and peer in results.peers(measure) and peer in LABELS:
            ratios = [
                results.ratio(measure, size, figure, ours=OURS, other=peer, higher_is_better=higher)
                for size in sizes
            ]
            if any(ratios):
                rows.append([f"dora_nb / {LABELS[peer]}", *(both(ratio) for ratio in ratios)])
    return section(title, rows)


def counts_table(results: Results) -> str:
    """Of the bursts: how many were sent and received, in the worst round of each peer."""
    sizes = [size for size in _SIZES if size in results.cases("burst")]
    rows: Rows = [["received / sent, worst round", *sizes]]
    for peer in results.peers("burst"):
        row = [LABELS[peer]]
        for size in sizes:
            received = results.by_round("burst", peer, size, "received")
            sent = results.by_round("burst", peer, size, "sent")
            worst = min(received, key=lambda number: received[number] / sent[number], default=None)
            row.append("–" if worst is None else f"{received[worst]:.0f} / {sent[worst]:.0f}")
        rows.append(row)
    return section("What arrived of the bursts", rows)


def machine_text(results: Results) -> str:
    """What it was measured on."""
    on = results.machine
    packages = ", ".join(f"{name} {version}" for name, version in on["packages"].items())
    return (
        f"Measured on {on['date']}: {on['processor']}, {on['cpus']} CPUs, {on['memory_gib']} GiB, "
        f"{on['system']}, Python {on['python']}; {packages}. Rounds: {on['rounds']}"
        f"{', shortened' if on['quick'] else ''}."
    )


def section(title: str, rows: Rows) -> str:
    """A heading and a table; nothing where there are no rows but the head."""
    if len(rows) < 2:
        return ""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join([f"### {title}", "", *lines])


def both(summary: Summary | None) -> str:
    """The median, and the worst round in brackets."""
    return "–" if summary is None else f"{short(summary.median)} ({short(summary.worst)})"


def short(value: float) -> str:
    """Two or three digits that matter."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def fill_page(page: Path, results: Results) -> None:
    """Puts the tables of a run between the marks of a page."""
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n\n{text_of(results)}\n\n{END}{tail}", encoding="utf-8")


def write_plot(results: Results, path: Path) -> None:
    """The medians over the sizes, as a picture. Without matplotlib there is none."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    measures = [each for each in list(_TITLES)[:_PLOTTED] if results.cases(each)]
    if not measures:
        return
    figure, axes = pyplot.subplots(
        1, len(measures), figsize=(4.2 * len(measures), 3.6), squeeze=False, layout="constrained"
    )
    for axis, measure in zip(axes[0], measures, strict=True):
        title, name, unit = _TITLES[measure]
        sizes = [size for size in _SIZES if size in results.cases(measure)]
        for peer in LABELS:
            points = [
                (at, results.summary(measure, peer, size, name)) for at, size in enumerate(sizes)
            ]
            known = [(at, summary.median) for at, summary in points if summary is not None]
            if len(known) > 1:
                _plot_line(axis, known, LABELS[peer], ours=peer == OURS)
        axis.set(title=title, ylabel=unit, yscale="log")
        axis.set_xticks(range(len(sizes)), sizes, fontsize=7)
        axis.grid(visible=True, alpha=0.3)
    if axes[0][0].lines:
        axes[0][0].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _plot_line(
    axis: object, points: Sequence[tuple[int, float]], label: str, *, ours: bool
) -> None:
    xs, ys = zip(*points, strict=True)
    axis.plot(xs, ys, marker="o", markersize=3, linewidth=2.4 if ours else 1.0, label=label)  # type: ignore[attr-defined]


def _loses(ratio: Summary, higher_is_better: bool) -> bool:
    return ratio.median < 1 if higher_is_better else ratio.median > 1


def _verdict(outcome: Outcome) -> str:
    if not outcome.median_holds:
        return "**missed**"
    return "reached" if outcome.worst_holds else "worst round missed"
