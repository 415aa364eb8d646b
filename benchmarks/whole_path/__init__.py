"""The whole path of a message, measured against every peer in one run.

::

    python -m benchmarks.whole_path            everything, about twelve minutes
    python -m benchmarks.whole_path --quick    a short check that it works
    python -m benchmarks.whole_path report FILE.json    the tables and the plot of an earlier run

The same two classes, `nodes/sender.py` and `nodes/receiver.py`, run on every peer: as operators of
dora_nb and of dora-rs, and in processes of their own over transports without an engine (`bare`). They
make the stamps, which are part of the payload. Each round runs all peers one after the other, so that
other load on the machine affects all of them; only figures of the same round are compared.
"""
