"""When pictures may go to the browser; all times are handed in."""

from __future__ import annotations

import pytest

from dora_nb.widgets.page.pacing import (
    ANSWER_SILENCE_SECS,
    BLIND_FPS,
    SLOWEST_FPS,
    WINDOW,
    Pacer,
    blind_interval_secs,
)


def send_for(pacer: Pacer, secs: float, *, start: float, acks_every: float | None = None) -> int:
    """How many pictures go in that time from a source that always has one; the page draws them all."""
    sent, now, acked = 0, start, start
    while now < start + secs:
        if pacer.delay_secs(now) == 0:
            pacer.sent(now)
            sent += 1
        if acks_every is not None and now - acked >= acks_every:
            ack(pacer, now, drawn=pacer.seq)
            acked = now
        now += 0.001
    return sent


def ack(pacer: Pacer, now: float, *, drawn: int, dropped: int = 0, client: str = "page") -> None:
    seq = drawn + dropped
    pacer.on_ack(client, seq=seq, drawn=drawn, dropped=dropped, broken=0, now_secs=now)


def test_the_pace_is_the_one_that_was_asked_for():
    pacer = Pacer(30)
    pacer.on_hello("page", 0)

    assert send_for(pacer, 10, start=0, acks_every=0.25) == pytest.approx(300, abs=5)


def test_a_picture_that_comes_late_does_not_delay_those_after_it():
    pacer = Pacer(10)
    for now in (5.0, 5.1, 5.2):
        pacer.sent(now)
    pacer.sent(late := 5.33)

    assert pacer.delay_secs(late) == pytest.approx(0.1 / 2)


def test_without_answers_only_a_window_of_pictures_is_under_way():
    pacer = Pacer(30)
    pacer.on_hello("page", 0)

    assert send_for(pacer, ANSWER_SILENCE_SECS, start=0) <= WINDOW
    assert pacer.seq >= WINDOW - 1


def test_without_answers_pictures_go_on_blindly_and_slower():
    """A running cell may hold answers back for as long as it likes."""
    pacer = Pacer(30)
    pacer.on_hello("page", 0)
    send_for(pacer, 5, start=0)

    assert pacer.is_blind()
    assert send_for(pacer, 10, start=5) == pytest.approx(10 * BLIND_FPS, abs=2)


def test_the_first_answer_ends_blindness():
    pacer = Pacer(30)
    send_for(pacer, 5, start=0)

    ack(pacer, 5, drawn=pacer.seq)

    assert not pacer.is_blind()
    assert pacer.delay_secs(5.1) == 0


def test_what_is_sent_to_nobody_grows_with_the_logarithm_of_time():
    """A server keeps what a closed laptop does not fetch: an hour may not cost gigabytes."""
    assert blind_interval_secs(1) == 1 / BLIND_FPS
    assert blind_interval_secs(600) == pytest.approx(1)
    silence_secs, pictures = 0.0, 0
    while silence_secs < 24 * 3600:
        silence_secs += blind_interval_secs(silence_secs)
        pictures += 1
    assert pictures < 5500


def test_a_browser_that_drops_gets_fewer_pictures_and_then_more_again():
    pacer = Pacer(30)
    pacer.on_hello("page", 0)
    ack(pacer, 1.0, drawn=0)

    ack(pacer, 2.0, drawn=12, dropped=18)
    slow = pacer.rate_fps
    ack(pacer, 3.0, drawn=24, dropped=18)

    assert slow == pytest.approx(12 * 1.05)
    assert slow < pacer.rate_fps < 30


def test_a_browser_that_draws_nothing_still_gets_some():
    pacer = Pacer(30)
    ack(pacer, 1.0, drawn=0)
    ack(pacer, 2.0, drawn=0, dropped=30)

    assert pacer.rate_fps == SLOWEST_FPS


def test_a_slow_view_is_not_made_faster_by_the_lowest_rate():
    pacer = Pacer(2)
    ack(pacer, 1.0, drawn=0)
    ack(pacer, 2.0, drawn=0, dropped=2)

    assert pacer.rate_fps == 2


@pytest.mark.parametrize("elapsed_secs", [0.01, 60.0])
def test_answers_that_were_held_back_say_nothing_about_speed(elapsed_secs: float):
    pacer = Pacer(30)
    ack(pacer, 1.0, drawn=0)
    ack(pacer, 1.0 + elapsed_secs, drawn=1, dropped=100)

    assert pacer.rate_fps == 30


def test_the_view_counts_as_visible_until_a_page_says_no():
    pacer = Pacer(30)
    assert pacer.visible
    pacer.on_hello("page", 0)
    assert pacer.visible
    pacer.pages.on_visible("page", 0, 1)
    assert not pacer.visible


def test_a_page_that_is_heard_only_between_cells_gets_a_picture_now_and_then():
    pacer = Pacer(30)
    pacer.on_hello("page", 0)
    pacer.pages.on_visible("page", 0, 0, delayed=True)

    assert pacer.wanted
    assert not pacer.visible
    assert send_for(pacer, 10, start=1) == 10

    pacer.pages.on_visible("page", 0, 12, delayed=False)
    assert not pacer.wanted


def test_one_page_that_shows_it_is_enough():
    pacer = Pacer(30)
    for page in ("one", "two"):
        pacer.on_hello(page, 0)
    pacer.pages.on_visible("one", 0, 1)
    assert pacer.visible
    pacer.pages.on_visible("two", 0, 1)
    assert not pacer.visible


def test_a_page_that_was_lost_is_forgotten_when_the_next_one_comes():
    """It could not say that it shows the view no more."""
    pacer = Pacer(30)
    pacer.on_hello("lost", 0)
    pacer.on_hello("reloaded", 100)
    pacer.pages.on_visible("reloaded", 0, 101)

    assert not pacer.visible


def test_a_new_page_does_not_wait_for_answers_to_what_it_never_got():
    pacer = Pacer(30)
    send_for(pacer, 5, start=0)
    pacer.on_hello("page", 5)

    assert not pacer.is_blind()


def test_counts_of_a_page_start_again_when_it_is_loaded_again():
    pacer = Pacer(30)
    ack(pacer, 1, drawn=10, client="before")
    ack(pacer, 2, drawn=3, client="after")

    assert pacer.drawn == 13


def test_an_answer_to_more_than_was_sent_is_not_believed():
    pacer = Pacer(30)
    send_for(pacer, 0.2, start=0)
    ack(pacer, 1, drawn=10**6)
    send_for(pacer, 5, start=1)

    assert pacer.is_blind()
