"""The dataflow of a notebook, as Python code sees it: declare, run, watch, and exchange messages.

::

    dataflow      `Dataflow`: what users call          front_end    what magics and widgets need beyond it
    watched       `WatchedDataflow`, `attach`          batch        `dora-nb run`
    base          what both share: look, read, send
    declaring     nodes and their edits                running      start, stop, restart, retry
    messaging, subscription, params, debugging         messages, parameters, an operator in the kernel
    topics, rates                                      which topics there are, how often messages come
    controls      values that a page sets: sliders, joysticks, with their dead-man
    current_run   the graph and the session that all of these share
    results, failures, arguments                       what is returned, what was shown, what is passed
"""
