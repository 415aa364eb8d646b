"""The program in each operator's process.

It is small and separate: it imports the transport, Arrow and the user's code, never IPython, widgets,
OpenCV or torch by itself (a test looks at `sys.modules` of a real one). `program` is its entry;
`_life` leads from the engine's first message to the end of the process. `_process` serves the engine, holds
the ends of edges and sends, for each kind of node. `_loop` waits for messages and timers and calls the
operator (`user_operator`); `_script` is what a script's `Node` runs on, and `joined` that of a process of
the user's own.
"""
