"""Lower limits for all peers: two hops between two Python processes, and one copy of the bytes."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import socket
import time

import numpy as np


def two_hops_micros(rounds: int, *, cpus: tuple[int, int] | None) -> list[float]:
    """Round trips of eight bytes between two Python processes that do nothing else."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    spawning = multiprocessing.get_context("spawn")
    with ours, theirs:
        process = spawning.Process(target=_echo, args=(theirs, None if cpus is None else cpus[1]))
        process.start()
        theirs.close()
        before = os.sched_getaffinity(0)
        try:
            if cpus is not None:
                os.sched_setaffinity(0, {cpus[0]})
            return [_round_trip_micros(ours) for _ in range(rounds)][rounds // 8 :]
        finally:
            os.sched_setaffinity(0, before)
            ours.close()
            process.join(2.0)
            process.kill()
            process.join()


def _round_trip_micros(end: socket.socket) -> float:
    begin_nanos = time.perf_counter_ns()
    end.send(b"12345678")
    end.recv(16)
    return (time.perf_counter_ns() - begin_nanos) / 1e3


def _echo(end: socket.socket, cpu: int | None) -> None:
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    while data := end.recv(16):
        end.send(data)


def copy_micros(size: int, rounds: int) -> list[float]:
    """`np.copyto` of so many bytes into shared memory that was touched before."""
    descriptor = os.memfd_create("whole-path")
    try:
        os.ftruncate(descriptor, size)
        memory = mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
    target = np.frombuffer(memory, np.uint8)
    source = np.ones(size, np.uint8)
    np.copyto(target, source)
    micros = []
    for _ in range(rounds):
        begin_nanos = time.perf_counter_ns()
        np.copyto(target, source)
        micros.append((time.perf_counter_ns() - begin_nanos) / 1e3)
    del target
    memory.close()
    return micros
