"""The engines: they run a dataflow.

::

    base           what an engine must be able to do (`EngineSession`)
    edit           pure: the gentlest way from one declaration of a node to another
    embedded/      the engine in this package: a process for each operator, supervised from the kernel
    dora/          dora-rs, driven by its own program `dora`
    capture        pure: what nodes print → bounded lines
    control_words  what the kernel says of a control (a slider, a joystick), as a message
    control_states pure: words in, messages out, when they are due; the dead-man
    control_loop   its loop, in the process that publishes the controls (`controls_script` on embedded)
    control_board  the controls of a dataflow and their newest words, in the kernel
    environment    the environment of a node's process, on either engine
    worker         a thread that completes a call even if the caller is interrupted
    orphan_reaper  kills what is left when the kernel is gone (`orphan_reaper_program` runs beside the kernel)
    os_errors      pure: errors of the operating system → EngineError with a way out
"""
