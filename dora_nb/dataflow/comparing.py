"""Which two versions of a node a comparison runs: where the code of each comes from.

`dora_nb.compare` runs them.
"""

from __future__ import annotations

import functools
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from dora_nb.cells.declare import MAGICS, read_declaration, split_cell
from dora_nb.cells.options import LAST
from dora_nb.compare import Candidate, Comparison, compare
from dora_nb.errors import DoraNbError, GraphError, RecordingError
from dora_nb.graph.nodes import NodeSpec, SourceCode

from .arguments import read_source
from .current_run import CurrentRun, Progress

if TYPE_CHECKING:
    from dora_nb.recording import Recording

Code = int | str | Path
"""A version of a node: a generation, the text of its code or its cell, or the file of its code."""
DEFAULT_TIMEOUT_SECS = 60.0


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _frees_the_file(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Takes the frames of the function from our errors: IPython keeps them, and they the recording open."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        __tracebackhide__ = True
        try:
            return function(*args, **kwargs)
        except DoraNbError as error:
            raise error.with_traceback(None) from None

    return wrapped


@_frees_the_file
def compare_node(
    run: CurrentRun,
    name: str,
    recording: Recording | str | Path,
    *,
    before: Code | NodeSpec | None,
    after: Code | NodeSpec | None,
    generations: Mapping[int, NodeSpec],
    timeout_secs: float,
    save_last: Callable[[Path], object] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Runs two versions of a node on a recording; see `Dataflow.compare`.

    `generations` are those of the current session, by number; `save_last` writes the flight recorder's
    messages into a file.
    """
    if not timeout_secs > 0:
        raise GraphError(f"timeout_secs must be > 0, got {timeout_secs!r}.")
    of_last = recording == LAST
    opened, file = _open(recording, save_last)
    search = _Versions(run, name, opened, file, generations, this_run_first=of_last)
    if before is None and of_last:
        before = search.generation_before_now()
    # The newer version first: the older one is read with its declaration where it has none of its own.
    newer = search.find(after, otherwise=search.declared, which="after")
    older = search.find(before, otherwise=search.recorded, which="before", like=newer.spec)
    return compare(older, newer, opened, file=file, timeout_secs=timeout_secs, progress=progress)


@_frees_the_file
def compare_edit(
    run: CurrentRun, spec: NodeSpec, recording: Recording | str | Path, progress: Progress
) -> Comparison | None:
    """Compares a declaration that is about to replace another one, or else the recorded one.

    Returns None if there is neither. `progress` is called once the file is open.
    """
    opened, file = _open(recording, None)
    progress(f"{spec.name}: comparing on {file}")
    before = run.graph.nodes.get(spec.name)
    if before is None and opened.cell(spec.name) is None:
        return None
    return compare_node(
        run,
        spec.name,
        opened,
        before=before,
        after=spec,
        generations={},
        timeout_secs=DEFAULT_TIMEOUT_SECS,
        progress=progress,
    )


def _open(
    recording: Recording | str | Path, save_last: Callable[[Path], object] | None
) -> tuple[Recording, str]:
    """Opens the recording; returns it with the name by which the result calls it."""
    # Here, since it loads the package `mcap`.
    from dora_nb.recording import Recording

    if isinstance(recording, Recording):
        return recording, recording.path.name
    if recording == LAST and save_last is not None:
        return _open_last(save_last), "the last seconds"
    given: object = recording  # No type checker has seen a notebook.
    if not isinstance(given, (str, Path)):
        kind = type(given).__name__
        raise GraphError(f"recording must be a Recording or the path of one, got {kind}.")
    opened = Recording(Path(recording).expanduser())
    return opened, opened.path.name


def _open_last(save_last: Callable[[Path], object]) -> Recording:
    from dora_nb.recording import Recording

    folder = tempfile.TemporaryDirectory(prefix="dora-nb-last-")
    try:
        save_last(Path(folder.name) / "last.mcap")
        opened = Recording(Path(folder.name) / "last.mcap")
    except BaseException:
        folder.cleanup()
        raise
    # The view reads pictures of it for as long as the result is shown.
    weakref.finalize(opened, folder.cleanup)
    return opened


class _Versions:
    """Finds the versions of one node."""

    def __init__(
        self,
        run: CurrentRun,
        name: str,
        recording: Any,
        file: str,
        generations: Mapping[int, NodeSpec],
        *,
        this_run_first: bool,
    ) -> None:
        self._this_run_first = this_run_first
        self._graph = run.graph
        self._name = name
        self._recording = recording
        self._file = file
        self._generations = generations

    def find(
        self,
        given: object,
        *,
        otherwise: Callable[[], Candidate],
        which: str,
        like: NodeSpec | None = None,
    ) -> Candidate:
        """Returns the version that was given, of the types that `Dataflow.compare` names. `like` has the wiring of code without a line of its own."""
        if given is None:
            found = otherwise()
        elif isinstance(given, NodeSpec):
            found = self._candidate(_label(given), given)
        elif isinstance(given, int) and not isinstance(given, bool):
            found = self._generation(given)
        elif isinstance(given, (str, Path)):
            found = self._from_code(given, like)
        else:
            raise GraphError(
                f"{which} must be a generation, the text of a cell or the Path of a file, "
                f"got a {'class' if isinstance(given, type) else type(given).__name__}:",
                hint="another process runs it, which needs the code.",
            )
        self._check_runs(found.spec)
        return found

    def declared(self) -> Candidate:
        """Returns what is declared now. Raises GraphError, with the nearest name, where nothing is."""
        spec = self._graph.node(self._name)
        return self._candidate(f"now ({_label(spec)})", spec)

    def recorded(self) -> Candidate:
        """Returns the newest source that the recording has of the node."""
        cell = self._recording.cell(self._name)
        if cell is None:
            raise RecordingError(
                f"{self._file} has no source of '{self._name}':",
                hint="give before: a generation, the text of a cell or the Path of a file.",
            )
        return self._from_cell(cell)

    def generation_before_now(self) -> int:
        """Returns the newest generation of this run but one. Raises GraphError where there is only one."""
        numbers = sorted(self._generations)
        if len(numbers) < 2:
            raise GraphError(
                f"{self._name} has no earlier generation to compare with:",
                hint="edit its cell first, or name one with --generation.",
            )
        return numbers[-2]

    def _generation(self, number: int) -> Candidate:
        cell = self._recording.cell(self._name, number)
        # Of the last seconds, both are the same generation; this run's has its cell's own name and folder.
        own_first = self._this_run_first and number in self._generations
        if cell is not None and not own_first:
            return self._from_cell(cell)
        if number in self._generations:
            return self._candidate(f"generation {number}", self._generations[number])
        recorded = {cell.generation for cell in self._recording.cells() if cell.node == self._name}
        known = ", ".join(map(str, sorted(recorded | set(self._generations))))
        raise GraphError(
            f"{self._name} has no generation {number}, neither in {self._file} nor in this run.",
            hint=f"There are: {known}." if known else None,
        )

    def _from_cell(self, cell: Any) -> Candidate:
        label = f"generation {cell.generation} of {self._file}"
        return self._candidate(label, self._read_cell(cell.text, f"{self._name} ({label})"))

    def _from_code(self, given: str | Path, like: NodeSpec | None) -> Candidate:
        if isinstance(given, str) and split_cell(given, "") is not None:
            return self._candidate("the given cell", self._read_cell(given, f"<{self._name}>"))
        base = like or self._graph.nodes.get(self._name)
        if base is None:
            base = self.recorded().spec
        code = read_source(self._name, given)
        MAGICS["dora_operator" if base.kind == "operator" else "dora_node"].check_source(code)
        label = str(given) if isinstance(given, Path) else "the given code"
        return self._candidate(label, replace(base, code=_in_place_of(base, code)))

    def _read_cell(self, text: str, file: str) -> NodeSpec:
        cell = split_cell(text, file)
        if cell is None:
            raise RecordingError(f"{self._file}: the source of '{self._name}' is not a cell.")
        declared = self._graph.nodes.get(self._name)
        # A recording does not say where its notebook was.
        folder = Path.cwd() if declared is None else Path(declared.working_dir)
        words = cell.header.words()
        read = read_declaration(MAGICS[cell.magic], cell.header, words, cell.body, folder=folder)
        code = read.spec.code if declared is None else _in_place_of(declared, read.spec.code)
        return replace(read.spec, name=self._name, code=code)

    def _candidate(self, label: str, spec: NodeSpec) -> Candidate:
        return Candidate(label, spec, self._graph.replacing(spec))

    def _check_runs(self, spec: NodeSpec) -> None:
        if spec.kind == "dynamic":
            raise GraphError(
                f"{spec.name} is a dynamic node: its process is your own, and there is no code to compare."
            )
        if spec.obstacle is not None:
            raise GraphError(f"{spec.name} cannot be compared: {spec.obstacle}.")


def _in_place_of(declared: NodeSpec, code: SourceCode) -> SourceCode:
    """The code as if it stood in the file of the declaration, if it has one: it may look beside `__file__`."""
    if declared.code.path is None or code.path is not None:
        return code
    return replace(code, path=declared.code.path, first_line=1)


def _label(spec: NodeSpec) -> str:
    return spec.code.file
