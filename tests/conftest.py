"""After every test: what it started must have ended.

A snapshot is taken when the fixtures of session, module and class are up and before those of the
test itself; it is compared when the latter are torn down. So a browser or a server that lives as
long as the session is part of the picture, and what a test's own fixture forgets is not.

=============  =====================================================================================
kind           what counts as left behind
=============  =====================================================================================
threads        alive: not daemons, or daemons of ours (named ``dora-...``)
processes      children, zombies too, and orphans: those with this run's mark in their environment
descriptors    open ones, by the kind of thing that they point to
shared memory  names in /dev/shm, which is this run's own (see `_have_own_shared_memory`)
mappings       of anonymous memory (memfd)
=============  =====================================================================================

Other programs have names in /dev/shm too, and nothing tells whose a name is. So each run of pytest mounts
a /dev/shm that no other program sees; pytest-xdist's workers have one each. Where the system does not
allow that (it takes root, or the capability CAP_SYS_ADMIN), names are not looked at, and the header of the
run says so.

A folder that cannot be held to all of it (a browser starts processes when it likes) overrides the
fixture `leak_kinds` in its own conftest. A test that failed is not checked: its traceback keeps
alive what it used.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import signal
import sys
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

LEAK_KINDS = ("threads", "processes", "descriptors", "shared memory", "mappings")
OUR_THREADS = "dora-"

_MARK = "DORA_NB_TEST_RUN"
_RUN = os.environ[_MARK] = uuid.uuid4().hex
os.environ["DORA_NB_SPARES"] = "0"  # Spares outlive a stop; the tests of them ask for some.
# jsonschema would load it to check IRIs, of which nothing here has any: its grammar takes 2 s to build.
sys.modules["rfc3987_syntax"] = None
_FAILED = pytest.StashKey[bool]()
_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | 1 << 18
"""Of sched.h and sys/mount.h; Python has unshare from 3.12 on, and no mount."""


def _have_own_shared_memory() -> bool:
    """Mounts an empty /dev/shm for this process and those that it starts; whether that is allowed.

    Done once, while the process has no thread whose view of the file system would stay as it was.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return (
        libc.unshare(_CLONE_NEWNS) == 0
        # First of all, or the mount would show outside too.
        and libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) == 0
        and libc.mount(b"dora-nb-tests", b"/dev/shm", b"tmpfs", 0, b"mode=1777") == 0
    )


_OWN_SHARED_MEMORY = _have_own_shared_memory()


# No example has a time limit: the machine may be busy.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "leak_settle_secs",
        "how long what a test started may take to end after it (only a leak takes that long)",
        default="30",
    )


def pytest_configure() -> None:
    """What a shell starts in the background ignores SIGINT, and so would every kernel of a test."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What was imported and collected lasts: the garbage collector need not walk it before and after tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_report_header() -> str:
    """Whether names in /dev/shm are looked at."""
    if _OWN_SHARED_MEMORY:
        return "leak check: /dev/shm is this run's own"
    return "leak check: names in /dev/shm are not looked at, since this user may not mount one"


_DORA = "dora-rs and dynamic nodes"
_GROUPS = {
    "parity": _DORA,
    "test_on_dora.py": _DORA,
    "test_dynamic_nodes.py": _DORA,
    "test_topic_on_dora.py": _DORA,
    "browser": "browser",
}
"""By folder or file: the group of its tests, where that is not one for each file; the longest first.

The rows of the parity suite share one coordinator and daemon. All of the first group declare dynamic nodes: a
process may join any kernel of its user, so no two of these tests run at a time.
"""


def _group_of(path: str) -> str:
    """The group of the tests in a file."""
    *folders, name = path.split("/")
    return next((group for part, group in _GROUPS.items() if part in (*folders, name)), path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With pytest-xdist, tests of one group run in one worker, one after the other.

    ``--dist loadgroup`` would say so by marks, but pytest-xdist 3.8 writes them into an attribute that pytest
    9.2 no longer reads, and then sends every test to any worker.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group_of(nodeid.partition("::")[0])

    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers take groups in this order: a long one that begins late would be waited for."""
    order = list(dict.fromkeys(_GROUPS.values()))

    def rank(item: pytest.Item) -> int:
        group = _group_of(item.nodeid.partition("::")[0])
        return order.index(group) if group in order else len(order)

    items.sort(key=rank)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Ends what lasts for a session with the last test of such a folder.

    Playwright's synchronous API keeps an event loop running in its thread, where no later test could call
    `asyncio.run`; what a browser or a daemon of dora-rs starts or leaves in /dev/shm would be reported as left
    behind by a later test.
    """
    folder = item.path.parent
    if folder.name in _GROUPS and nextitem is not None and nextitem.path.parent != folder:
        item.session._setupstate.teardown_exact(None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What long tests state that they have done, with ``record_property("stated", ...)``."""
    stated = [
        str(value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "stated" and report.when == "call"
    ]
    if stated:
        terminalreporter.section("stated by the tests")
        for line in stated:
            terminalreporter.line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture
def leak_kinds() -> tuple[str, ...]:
    """What is looked at after a test; a folder's conftest may override it with less."""
    return LEAK_KINDS


@pytest.fixture(autouse=True)
def _nothing_left_behind(
    request: pytest.FixtureRequest, leak_kinds: tuple[str, ...]
) -> Iterator[None]:
    before = Snapshot.take(leak_kinds)
    yield
    if request.node.stash.get(_FAILED, False):
        return
    left = _left_after_settling(before, float(request.config.getini("leak_settle_secs")))
    if left:
        pytest.fail("left behind by this test:\n" + "\n".join(left), pytrace=False)


@dataclass(frozen=True)
class Snapshot:
    """What exists now, for each kind that is looked at; a kind that is not is empty."""

    kinds: tuple[str, ...]
    threads: frozenset[threading.Thread] = frozenset()
    pids: frozenset[int] = frozenset()
    descriptors: Counter[str] | None = None
    shared_memory: frozenset[str] = frozenset()
    mappings: Counter[str] | None = None

    @classmethod
    def take(cls, kinds: tuple[str, ...]) -> Snapshot:
        unknown = set(kinds) - set(LEAK_KINDS)
        assert not unknown, f"there are no such kinds of leaks: {unknown}"
        return cls(
            kinds,
            threads=frozenset(threading.enumerate()) if "threads" in kinds else frozenset(),
            pids=_all_pids() if "processes" in kinds else frozenset(),
            descriptors=_descriptors() if "descriptors" in kinds else None,
            shared_memory=_shared_memory() if "shared memory" in kinds else frozenset(),
            mappings=_mappings() if "mappings" in kinds else None,
        )

    def left_since(self) -> list[str]:
        """One or more lines for everything that exists now and did not then."""
        finders: dict[str, Callable[[], list[str]]] = {
            "threads": self._left_threads,
            "processes": self._left_processes,
            "descriptors": self._left_descriptors,
            "shared memory": self._left_shared_memory,
            "mappings": self._left_mappings,
        }
        return [line for kind in self.kinds for line in finders[kind]()]

    def _left_threads(self) -> list[str]:
        return [
            f"  thread {thread.name}\n{_stack(thread)}"
            for thread in threading.enumerate()
            if thread not in self.threads
            and (not thread.daemon or thread.name.startswith(OUR_THREADS))
        ]

    def _left_processes(self) -> list[str]:
        new = _all_pids() - self.pids
        ours = {pid for pid in _children() if pid in new} | {pid for pid in new if _is_marked(pid)}
        return [f"  process {pid}: {_command(pid)}" for pid in sorted(ours)]

    def _left_descriptors(self) -> list[str]:
        assert self.descriptors is not None
        return [
            f"  {count} descriptor{'s' if count > 1 else ''}: {kind}"
            for kind, count in (_descriptors() - self.descriptors).items()
        ]

    def _left_shared_memory(self) -> list[str]:
        return [f"  /dev/shm/{name}" for name in sorted(_shared_memory() - self.shared_memory)]

    def _left_mappings(self) -> list[str]:
        assert self.mappings is not None
        return [
            f"  {count} mapping{'s' if count > 1 else ''} of memfd:{name}"
            for name, count in (_mappings() - self.mappings).items()
        ]


def _left_after_settling(before: Snapshot, settle_secs: float) -> list[str]:
    """What is left, once threads and processes that are on their way out have gone."""
    left = before.left_since()
    deadline = time.monotonic() + settle_secs
    while left and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
        left = before.left_since()
    return left


def _stack(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)) if frame else "    (not started)\n"


def _all_pids() -> frozenset[int]:
    return frozenset(int(name) for name in os.listdir("/proc") if name.isdigit())


def _children() -> Iterator[int]:
    """Processes that this one must reap, whichever of its threads started them."""
    for task in os.listdir("/proc/self/task"):
        try:
            yield from map(int, Path(f"/proc/self/task/{task}/children").read_text().split())
        except OSError:  # the thread has ended meanwhile
            continue


def _is_marked(pid: int) -> bool:
    try:
        return f"{_MARK}={_RUN}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # ended meanwhile, or another user's
        return False


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "ended meanwhile"
    return " ".join(word.decode(errors="replace") for word in words).strip() or "a zombie"


def _descriptors() -> Counter[str]:
    """How many descriptors are open on what; ``socket:[123]`` counts as ``socket``."""
    counts: Counter[str] = Counter()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:  # the one that the listing itself had open
            continue
        counts[re.sub(r":\[\d+\]$", "", link)] += 1
    return counts


def _shared_memory() -> frozenset[str]:
    return frozenset(os.listdir("/dev/shm")) if _OWN_SHARED_MEMORY else frozenset()


def _mappings() -> Counter[str]:
    """How often each anonymous memory is mapped here."""
    maps = Path("/proc/self/maps").read_bytes()
    names = re.findall(rb"/memfd:(.*?)(?: \(deleted\))?\n", maps)
    return Counter(name.decode(errors="replace") for name in names)
