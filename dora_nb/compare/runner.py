"""Runs two versions of a node on a recording, one after the other, and compares what they sent."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from dora_nb.engines.embedded import Trial, TrialEvent, TrialResult, Trials
from dora_nb.graph.graph import Graph
from dora_nb.graph.nodes import NodeSpec
from dora_nb.graph.sources import TimerSource

from .clock_readers import clock_readers
from .comparison import AS_RECORDED, Comparison, MessagePair, OutputComparison, Version
from .pairing import START, STOP, Cause, Pair, Sent, pair
from .recorded_inputs import Source, check_inputs, recorded_inputs, stop_nanos

_FIRST_PROGRESS_SECS = 0.5
_PROGRESS_SECS = 0.2


@dataclass(frozen=True, slots=True)
class Candidate:
    """One version that is to run."""

    name: str
    """What the result calls it: ``generation 3``."""
    spec: NodeSpec
    declared: Graph
    """The dataflow that it is told of."""


@dataclass(slots=True)
class _Run:
    """One version, and what became of it."""

    candidate: Candidate
    trial: Trial | None = None
    """Its process, once it is started."""
    result: TrialResult = field(default_factory=TrialResult)
    causes: list[Cause] = field(default_factory=list)
    """Of each event that was given."""
    times_nanos: list[int] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)


def compare(
    before: Candidate,
    after: Candidate,
    recording: Source,
    *,
    file: str,
    timeout_secs: float,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Gives both versions the recorded inputs, and compares. Blocks until both have ended; can be interrupted.

    `progress` is called here, on the caller's thread, with a sentence for people.

    They run one after the other: what they own (a port, a GPU) is free for each, and neither takes processor
    time from the other. No process is left when it returns or raises. Raises RecordingError where the
    recording lacks their inputs, or cannot be read; EngineError where a process cannot be started.
    """
    notes = [AS_RECORDED]
    for candidate in (before, after):
        notes += check_inputs(recording, candidate.spec, file=file)
    runs = [_Run(before), _Run(after)]
    _run_both(runs, recording, timeout_secs, progress)
    for run in runs:
        for call in clock_readers(run.candidate.spec.code):
            notes.append(f"{run.candidate.name}: {call} does not follow the recorded clock")
        notes += [f"{run.candidate.name}: {each}" for each in run.result.warnings]
    notes += recording_notes(recording, file)
    return _compared(runs, recording, tuple(dict.fromkeys(notes)))


def recording_notes(recording: object, file: str) -> list[str]:
    """What the file says about itself: that it is cut, or that messages are missing."""
    return [f"{file}: {note}" for note in getattr(recording, "notes", ())]


def _run_both(
    runs: list[_Run],
    recording: Source,
    timeout_secs: float,
    progress: Callable[[str], None] | None,
) -> None:
    """On a thread of its own, which ends its processes whatever happens to the caller."""
    done: Future[None] = Future()
    cancel = os.eventfd(0, os.EFD_CLOEXEC)

    def run() -> None:
        try:
            _run_in_order(runs, recording, timeout_secs, cancel)
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)
        finally:
            os.close(cancel)

    threading.Thread(target=run, name="dora-compare").start()
    try:
        if progress is not None:
            _show_progress(runs, recording, done, progress)
        done.result()
    except KeyboardInterrupt:
        if not done.done():
            os.eventfd_write(cancel, 1)
            done.exception()
        raise


def _show_progress(
    runs: list[_Run], recording: Source, done: Future[None], progress: Callable[[str], None]
) -> None:
    """Until the runs are over. What is over at once shows nothing."""
    pause_secs = _FIRST_PROGRESS_SECS
    while not wait([done], pause_secs).done:
        pause_secs = _PROGRESS_SECS
        progress(_progress_text(runs, recording))


def _progress_text(runs: list[_Run], recording: Source) -> str:
    """``detector: generation 1 of run.mcap, at 1.2 of 3.0 s``: the newest version that has handled an input."""
    for run in reversed(runs):
        handled = 0 if run.trial is None else run.trial.num_handled
        if handled:
            # STOP counts too, and has no time of its own.
            at_nanos = run.times_nanos[min(handled, len(run.times_nanos)) - 1]
            secs = (at_nanos - recording.start_nanos) / 1e9
            end_secs = (stop_nanos(recording) - recording.start_nanos) / 1e9
            candidate = run.candidate
            return f"{candidate.spec.name}: {candidate.name}, at {secs:.1f} of {end_secs:.1f} s"
    return f"{runs[0].candidate.spec.name}: starting {runs[0].candidate.name}"


def _run_in_order(runs: list[_Run], recording: Source, timeout_secs: float, cancel: int) -> None:
    with Trials() as trials:
        # Both interpreters at once: the second loads its libraries while the first one works.
        for run in runs:
            run.trial = trials.start(run.candidate.spec, run.candidate.declared)
        for run in runs:
            _run_one(run, recording, timeout_secs, cancel)


def _run_one(run: _Run, recording: Source, timeout_secs: float, cancel: int) -> None:
    assert run.trial is not None  # started above
    run.result = run.trial.run(
        _noted(run, recording),
        start_nanos=recording.start_nanos,
        stop_nanos=stop_nanos(recording),
        timeout_secs=timeout_secs,
        cancel_descriptor=cancel,
    )


def _noted(run: _Run, recording: Source) -> Iterator[TrialEvent]:
    for cause, event in recorded_inputs(recording, run.candidate.spec):
        run.causes.append(cause)
        run.times_nanos.append(event.time_nanos)
        run.inputs.append(event.input)
        yield event


# -- what they sent --------------------------------------------------------------------------------


def _compared(runs: list[_Run], recording: Source, notes: tuple[str, ...]) -> Comparison:
    places = _places(runs)
    before, after = (_sent(run, places) for run in runs)
    node = runs[1].candidate.spec.name
    by_output: dict[str, list[MessagePair]] = {
        output: [] for run in runs for output in run.candidate.spec.outputs
    }
    for each in pair(before, after):
        time_nanos = _time_of(each, runs, recording)
        messages = [
            None if index is None else run.result.sent[index]
            for run, index in zip(runs, (each.before, each.after), strict=True)
        ]
        time_secs = (time_nanos - recording.start_nanos) / 1e9
        made = MessagePair(f"{node}/{each.output}", each, time_secs, messages[0], messages[1])
        by_output[each.output].append(made)
    ran = all(run.result.error is None for run in runs)
    return Comparison(
        node=node,
        recording=recording,
        before=_version(runs[0], recording),
        after=_version(runs[1], recording),
        outputs={
            output: OutputComparison(output, pairs, ran=ran) for output, pairs in by_output.items()
        },
        notes=notes,
        inputs=tuple(
            str(each.source)
            for each in runs[1].candidate.spec.inputs
            if not isinstance(each.source, TimerSource)
        ),
    )


def _places(runs: list[_Run]) -> dict[Cause, int]:
    """The order of all causes in time. The versions may read different topics."""
    times = {START: -1}
    for run in runs:
        times.update(zip(run.causes, run.times_nanos, strict=True))
    ordered = sorted(times, key=lambda cause: times[cause])
    return {cause: at for at, cause in enumerate([*ordered, STOP])}


def _sent(run: _Run, places: dict[Cause, int]) -> list[Sent]:
    causes = [_cause_of(each.number, run) for each in run.result.sent]
    outputs = [each.output for each in run.result.sent]
    return [
        Sent(cause, places[cause], output) for cause, output in zip(causes, outputs, strict=True)
    ]


def _cause_of(number: int, run: _Run) -> Cause:
    if number < 0:
        return START
    return run.causes[number] if number < len(run.causes) else STOP


def _time_of(each: Pair, runs: list[_Run], recording: Source) -> int:
    for run, index in zip(runs, (each.before, each.after), strict=True):
        if index is not None:
            number = run.result.sent[index].number
            if number < 0:
                return recording.start_nanos
            return (
                run.times_nanos[number] if number < len(run.times_nanos) else stop_nanos(recording)
            )
    raise AssertionError("a pair has a message")


def _version(run: _Run, recording: Source) -> Version:
    result = run.result
    failed_at_secs = failed_on = None
    if result.failed_on is not None:
        number = result.failed_on
        at_stop = number >= len(run.causes)
        nanos = stop_nanos(recording) if at_stop else run.times_nanos[number]
        failed_at_secs = (nanos - recording.start_nanos) / 1e9
        failed_on = "STOP" if at_stop else f"'{run.inputs[number]}' ({run.causes[number].source})"
    return Version(
        name=run.candidate.name,
        events=result.num_events,
        p50_secs=_quantile_secs(result.handling_nanos, 0.5),
        p95_secs=_quantile_secs(result.handling_nanos, 0.95),
        error=result.error,
        failed_at_secs=failed_at_secs,
        failed_on=failed_on,
        printed=result.printed,
        warnings=result.warnings,
    )


def _quantile_secs(nanos: list[int], fraction: float) -> float | None:
    if not nanos:
        return None
    ordered = sorted(nanos)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] / 1e9
