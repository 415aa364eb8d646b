"""Rates and intervals from staged time stamps."""

from __future__ import annotations

import datetime
import math
import statistics
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dora_nb.dataflow.rates import Reading, TopicMeter, sent_secs

NEAR_SECS = 2e-6
"""A datetime has microseconds, and seconds since the epoch are a float."""
NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)


def meter_of(stamps_secs: Sequence[float], *, size: int = 1) -> TopicMeter:
    """A meter that has seen messages sent so many seconds after noon, of that many bytes."""
    meter = TopicMeter()
    value = pa.array(np.zeros(size, np.uint8))
    for secs in stamps_secs:
        stamp = NOON + datetime.timedelta(seconds=secs)
        meter.add({"value": value, "metadata": {"timestamp": stamp}}, now_secs=0.0)
    return meter


def test_an_even_topic() -> None:
    reading = meter_of([0.0, 0.1, 0.2, 0.3, 0.4], size=1000).reading()
    assert (reading.count, reading.total_bytes, reading.mean_bytes) == (5, 5000, 1000)
    assert reading.rate_hz == pytest.approx(10, rel=1e-4)
    assert reading.mean_secs == pytest.approx(0.1, abs=NEAR_SECS)
    assert reading.min_secs == pytest.approx(0.1, abs=NEAR_SECS)
    assert reading.max_secs == pytest.approx(0.1, abs=NEAR_SECS)
    assert reading.jitter_secs == pytest.approx(0, abs=NEAR_SECS)
    assert reading.bytes_per_sec == pytest.approx(10_000, rel=1e-4)


def test_an_uneven_topic() -> None:
    reading = meter_of([0.0, 0.1, 0.4]).reading()
    assert reading.rate_hz == pytest.approx(5, rel=1e-4)
    assert reading.mean_secs == pytest.approx(0.2, abs=NEAR_SECS)
    assert (reading.min_secs, reading.max_secs) == (
        pytest.approx(0.1, abs=NEAR_SECS),
        pytest.approx(0.3, abs=NEAR_SECS),
    )
    assert reading.jitter_secs == pytest.approx(0.1, abs=NEAR_SECS)


def test_missed_messages_count_in_the_rate() -> None:
    """Every other one was dropped: the topic is twice as fast as what was read."""
    reading = meter_of([0.0, 0.2, 0.4]).reading(missed=2)
    assert (reading.count, reading.missed) == (3, 2)
    assert reading.rate_hz == pytest.approx(10, rel=1e-4)
    assert reading.mean_secs == pytest.approx(0.2, abs=NEAR_SECS)


def test_one_message_has_a_size_and_no_rate() -> None:
    assert TopicMeter().reading() == Reading()
    assert TopicMeter().reading().mean_bytes is None
    reading = meter_of([0.0], size=7).reading()
    assert (reading.count, reading.mean_bytes) == (1, 7)
    assert reading.rate_hz is reading.mean_secs is reading.jitter_secs is None
    assert reading.bytes_per_sec is None


def test_messages_of_one_moment_have_no_rate() -> None:
    reading = meter_of([0.0, 0.0, 0.0]).reading()
    assert (reading.count, reading.rate_hz, reading.mean_secs) == (3, None, 0.0)


def test_without_a_stamp_the_time_of_arrival_counts() -> None:
    meter = TopicMeter()
    for now_secs in (10.0, 10.5, 11.0):
        meter.add({"value": None}, now_secs)
    assert meter.reading().rate_hz == 2.0


def test_the_stamp_of_a_message() -> None:
    assert sent_secs({"metadata": {"timestamp": NOON}}) == NOON.timestamp()
    for event in ({}, {"metadata": None}, {"metadata": {}}, {"metadata": {"timestamp": 5}}):
        assert sent_secs(event) is None


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=50))
def test_the_sums_are_those_of_the_whole_list(intervals: list[float]) -> None:
    stamps = [math.fsum(intervals[:at]) for at in range(len(intervals) + 1)]
    reading = meter_of(stamps).reading()
    assert reading.mean_secs == pytest.approx(statistics.fmean(intervals), abs=NEAR_SECS)
    assert reading.jitter_secs == pytest.approx(statistics.pstdev(intervals), abs=NEAR_SECS)
    assert reading.min_secs == pytest.approx(min(intervals), abs=NEAR_SECS)
    assert reading.max_secs == pytest.approx(max(intervals), abs=NEAR_SECS)
