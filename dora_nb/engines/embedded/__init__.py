"""The embedded engine: one supervised process for each operator, edges between the processes.

::

    Session            one run of a dataflow: starts, stops, applies edits; the only class others use
    ├── _supervisor    a thread for each operator; carries out what `_lifecycle` decides
    │   ├── _lifecycle pure: (life, event) → (life, actions)
    │   ├── _process   one process: its control socket, its output, its end
    │   ├── _operator_counts  its counts over all processes
    │   ├── _death     pure: exit status and stderr → the error that the user sees
    │   └── _event_at_death  keeps the event that a killed process was handling
    ├── _spawner       the one thread that starts processes (`_launch`), and the orphan reaper
    │   └── _spares    interpreters that were started before they are needed
    ├── _wiring        edges and arenas: which process holds which ends
    ├── _dynamic_nodes lets processes of the user join, on `_join_socket`
    ├── _services      what it is told of service nodes, the kit's own beside the user's
    │   ├── _controls_node  the process that publishes the controls
    │   └── _recorder_node  the process that records
    ├── _node_messages what a process is told of its node's declaration
    ├── _node_status   the status of a node
    ├── _kernel_subscriber  the kernel as a reader
    └── _kernel_publisher   the kernel as a publisher: what the notebook sends, what nodes print
    Trials             runs one node on recorded events, without a dataflow (`_trial`)
"""

from __future__ import annotations

from ._kernel_subscriber import Listener
from ._player_node import ReplaySpec
from ._recorder_node import all_topics, recorder_node
from ._services import ServiceSpec
from ._session import Session
from ._spares import SPARES
from ._trial import SentMessage, Trial, TrialEvent, TrialResult, Trials

__all__ = [
    "SPARES",
    "Listener",
    "ReplaySpec",
    "SentMessage",
    "ServiceSpec",
    "Session",
    "Trial",
    "TrialEvent",
    "TrialResult",
    "Trials",
    "all_topics",
    "recorder_node",
]
