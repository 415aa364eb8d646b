"""What the kernel and the processes of nodes tell each other: control messages, counters, log entries. Pure but for the sockets."""
