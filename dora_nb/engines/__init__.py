"""What runs a dataflow.

`embedded` is the engine in this package: a process for each operator, supervised from the kernel.
"""
