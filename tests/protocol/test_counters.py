"""Counters in shared memory, and quantiles that are as close as the histogram promises."""

from __future__ import annotations

import os
import random
import statistics

import pytest

from dora_nb.protocol import counters
from dora_nb.transport._wire import DATAGRAM_LIMIT


def test_no_call_has_no_quantile() -> None:
    assert counters.quantile_secs([0] * counters.BUCKETS, 0.5) is None
    assert counters.quantile_secs([], 0.5) is None


@pytest.mark.parametrize("typical_secs", [5e-6, 3e-3, 0.04, 2.0])
def test_a_median_is_within_three_percent(typical_secs: float) -> None:
    draw = random.Random(7)
    durations = [draw.lognormvariate(0, 0.5) * typical_secs for _ in range(4001)]
    counts = [0] * counters.BUCKETS
    for secs in durations:
        counts[counters.bucket_of(round(secs * 1e9))] += 1
    assert counters.quantile_secs(counts, 0.5) == pytest.approx(
        statistics.median(durations), rel=0.03
    )


def test_durations_beyond_the_histogram_go_into_its_ends() -> None:
    assert counters.bucket_of(0) == 0
    assert counters.bucket_of(10**18) == counters.BUCKETS - 1


def test_two_mappings_of_a_page_see_the_same_counts() -> None:
    page = counters.new_counters_page()
    writer, reader = counters.OperatorCounters(page), counters.OperatorCounters(page)
    os.close(page)
    writer.words[counters.EVENTS] += 3
    writer.record_duration(2_000_000)
    assert reader.words[counters.EVENTS] == 3
    assert sum(reader.durations()) == 1
    writer.close()
    reader.close()


def test_a_whole_datagram_fits_into_the_hand() -> None:
    assert counters.HAND_SIZE == DATAGRAM_LIMIT
