"""The whole path of a message, measured against every peer in one run.

::

    python -m benchmarks.whole_path            everything, about twelve minutes
    python -m benchmarks.whole_path --quick    a look whether it works
    python -m benchmarks.whole_path report FILE.json    the tables and the plot of an earlier run

The same two classes, `nodes/sender.py` and `nodes/receiver.py`, run on every peer: as operators of
dora_nb and of dora-rs, and in processes of their own over the transports that come without an engine
(`bare`). They make the stamps, which travel in the payload. Rounds go over the peers, one after the
other, so that what else the machine does meets all of them; what is compared is the ratio of one round.
"""
