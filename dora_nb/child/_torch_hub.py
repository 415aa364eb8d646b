"""`torch.hub.load` of a GitHub repository where GitHub does not answer.

Without a network, torch and the code of repositories wait for minutes: for names that no server looks up,
for downloads that are tried again and again (YOLOv5: ``curl --retry 9``). What torch has in its cache is
loaded nevertheless, with a limit for each access of the network. What then fails is explained.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

ONLINE_CHECK_SECS = 3.0
NETWORK_SECS = 3.0
"""The longest wait for one access of the network, where there probably is none."""
_CURL_SETTINGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "curl")
"""A folder with a ``.curlrc``, where curl looks for it."""


def _short_waits() -> dict[str, str]:
    """Returns the variables that limit the programs that repositories start: curl, pip."""
    return {
        "CURL_HOME": _CURL_SETTINGS,
        "PIP_DEFAULT_TIMEOUT": f"{NETWORK_SECS:.0f}",
        "PIP_RETRIES": "0",
    }


class _Limits:
    """Limits how long this process waits for the network, while any thread holds them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._undo = contextlib.ExitStack()
        self._of_thread = threading.local()

    @property
    def held_here(self) -> bool:
        """Whether this thread holds them: a repository's code may load another repository."""
        return getattr(self._of_thread, "depth", 0) > 0

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Limits the waits until the end of the block."""
        self._of_thread.depth = getattr(self._of_thread, "depth", 0) + 1
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                self._begin()
        try:
            yield
        finally:
            self._of_thread.depth -= 1
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self._undo.close()

    def _begin(self) -> None:
        before = {name: os.environ.get(name) for name in _short_waits()}
        self._undo.callback(_set_variables, before)
        _set_variables(_short_waits())
        # Not `socket.setdefaulttimeout`: it would also make the sockets non-blocking that dora_nb receives
        # from the engine meanwhile, on another thread.
        self._undo.callback(setattr, socket, "getaddrinfo", socket.getaddrinfo)
        socket.getaddrinfo = _looked_up_in_time(socket.getaddrinfo)
        connect = socket.socket.connect
        if "connect" in vars(socket.socket):
            self._undo.callback(setattr, socket.socket, "connect", connect)
        else:  # It is inherited from a class in C.
            self._undo.callback(delattr, socket.socket, "connect")
        socket.socket.connect = _connected_in_time(connect)  # type: ignore[method-assign]


_limits = _Limits()


def _set_variables(values: dict[str, str] | dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _looked_up_in_time(look_up: Callable[..., Any]) -> Callable[..., Any]:
    def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
        answer: list[Any] = []
        failure: list[Exception] = []

        def ask() -> None:
            try:
                answer.append(look_up(*args, **kwargs))
            except Exception as error:
                failure.append(error)

        # In a thread, since looking up a name has no limit of its own.
        asking = threading.Thread(target=ask, name="name-lookup", daemon=True)
        asking.start()
        asking.join(NETWORK_SECS)
        if answer:
            return answer[0]
        if failure:
            raise failure[0]
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    return getaddrinfo


def _connected_in_time(connect_as_before: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: socket.socket, address: Any) -> None:
        timeout_secs = self.gettimeout()
        is_internet = self.family in (socket.AF_INET, socket.AF_INET6)
        # Reads and writes of the connection have this limit too.
        if is_internet and (timeout_secs is None or timeout_secs > NETWORK_SECS):
            self.settimeout(NETWORK_SECS)
        connect_as_before(self, address)

    return connect


def patch(hub: Any, new_error: Callable[[str], Exception]) -> None:
    """Changes the module `torch.hub`. `new_error` makes the error that explains a failure."""
    original = hub.load

    def load(
        repo_or_dir: str, model: str, *args: Any, source: str = "github", **kwargs: Any
    ) -> Any:
        if source.lower() != "github" or (not _limits.held_here and github_answers()):
            return original(repo_or_dir, model, *args, source=source, **kwargs)
        if not _is_cached(hub.get_dir(), repo_or_dir):
            why = "the repository is not in torch's cache"
            raise new_error(_needs_network(repo_or_dir, model, why))
        try:
            with _limits.hold():
                kwargs["skip_validation"] = True
                return original(repo_or_dir, model, *args, source=source, **kwargs)
        except Exception as error:
            reason = _failure_of_network(error)
            if reason is None:
                raise
            what = f"{type(reason).__name__}: {reason}".splitlines()[0]
            why = f"what its code looks for is not on this machine ({what})"
            raise new_error(_needs_network(repo_or_dir, model, why)) from error

    load.__doc__ = original.__doc__
    hub.load = load


def _is_cached(hub_folder: str, repository: str) -> bool:
    """Returns whether torch has the repository, in the version that is named or in any."""
    name, colon, version = repository.partition(":")
    begin = name.replace("/", "_") + "_"
    if colon:
        return os.path.isdir(os.path.join(hub_folder, begin + version.replace("/", "_")))
    return os.path.isdir(hub_folder) and any(
        each.startswith(begin) for each in os.listdir(hub_folder)
    )


def _failure_of_network(error: BaseException) -> OSError | None:
    """Returns the failed access to the network, or to a file, that the error comes from; None without one."""
    seen: set[int] = set()
    while id(error) not in seen:
        if isinstance(error, OSError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__ or error
    return None


def _needs_network(repository: str, model: str, why: str) -> str:
    return (
        f"torch.hub.load('{repository}', '{model}') needs the network: GitHub does not answer, and "
        f"{why}. Load something that is here: torch.hub.load(FOLDER, NAME, source='local'), in "
        "the tutorial torch.hub.load('../samples/tiny_detector', 'tiny_detector', source='local')"
    )


def github_answers() -> bool:
    """Whether a connection to GitHub can be made. Blocks for `ONLINE_CHECK_SECS` at most.

    In a thread, since looking up a name has no limit of its own. Behind a proxy, which alone can
    reach GitHub, it is taken to answer.
    """
    import urllib.request  # Too much for every operator's start; torch.hub has it anyway.

    if urllib.request.getproxies().get("https"):
        return True
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(("github.com", 443), timeout=ONLINE_CHECK_SECS).close()
        except OSError:
            return
        answered.set()

    attempt = threading.Thread(target=connect, name="online-check", daemon=True)
    attempt.start()
    attempt.join(ONLINE_CHECK_SECS)
    return answered.is_set()
