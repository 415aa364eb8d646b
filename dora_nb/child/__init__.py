"""The program in each operator's process.

It is small and separate: it imports the transport, Arrow and the user's code, never IPython, widgets,
OpenCV or torch by itself (a test looks at `sys.modules` of a real one). `program` is its entry;
`_loop` waits for messages, timers and the engine; `_operator` runs the user's code.
"""
