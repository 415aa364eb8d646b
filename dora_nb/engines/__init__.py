"""What runs a dataflow.

::

    session        what an engine has to be able to do
    embedded/      the engine in this package: a process for each operator, supervised from the kernel
    dora/          dora-rs, driven by its own program `dora`
    capture        pure: what nodes print → bounded lines
    surroundings   what a node finds around it, on either engine
    warden         ends what is left when the kernel is gone (`warden_program`)
"""
