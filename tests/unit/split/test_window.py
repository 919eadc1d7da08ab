"""core.split.window: what is on the way is bounded, arrives once and in order."""

import random

import numpy as np
import pytest

from core.split import wire
from core.split.window import Inbox, Limits, Outbox
from core.split.wire import Arrival, Frame, WireError
from core.split.wire_pb2 import Limits as LimitsMessage

LIMITS = Limits(window=3, window_bytes=100, frame_bytes=1000)


def frame(step: int, nbytes: int = 10) -> Frame:
    return Frame("x", step, {"a": np.zeros(nbytes, np.uint8)})


def queue(outbox: Outbox, item: Frame) -> None:
    outbox.add(wire.head_of(item, 10**6), item)


def arrive(inbox: Inbox, step: int, nbytes: int = 10) -> None:
    assert inbox.expects(step, begins=True)
    inbox.add(Arrival(frame(step, nbytes), step, nbytes, 0, 0.0))


def test_the_window_is_full_at_its_frames_or_bytes_and_one_frame_goes_alone() -> None:
    outbox = Outbox()
    assert outbox.fits(10**9, LIMITS)
    queue(outbox, frame(1, 60))
    assert outbox.fits(40, LIMITS)
    assert not outbox.fits(41, LIMITS)
    queue(outbox, frame(2))
    queue(outbox, frame(3))
    assert not outbox.fits(0, LIMITS)
    for sequence in (1, 2, 3):
        assert outbox.begin(sequence)
    outbox.acknowledge(2)
    assert (len(outbox), outbox.acknowledged) == (1, 2)
    assert outbox.fits(90, LIMITS)
    assert not outbox.fits(91, LIMITS)


def test_what_was_never_sent_cannot_be_acknowledged() -> None:
    outbox = Outbox()
    queue(outbox, frame(1))
    with pytest.raises(WireError, match="frame 1 is acknowledged before it was sent"):
        outbox.acknowledge(1)
    assert outbox.begin(1)
    outbox.acknowledge(1)
    outbox.acknowledge(0)  # an old one changes nothing
    assert len(outbox) == 0


def test_both_sides_limits_hold() -> None:
    peer = LimitsMessage(window=9, window_bytes=50, frame_bytes=7)
    assert LIMITS.within(peer) == Limits(3, 50, 7, LIMITS.patience, LIMITS.keepalive)
    with pytest.raises(WireError, match="takes no frames at all"):
        LIMITS.within(LimitsMessage())


def test_frames_are_acknowledged_at_once_while_there_is_room_and_then_as_they_are_taken() -> None:
    inbox = Inbox(LIMITS)
    for step in (1, 2, 3, 4, 5):
        arrive(inbox, step)
    assert inbox.acknowledged == 3
    assert inbox.take()[0].step == 1
    assert inbox.acknowledged == 4
    taken, more = inbox.take()
    assert (taken.step, more, inbox.acknowledged) == (2, True, 5)
    taken, more = inbox.take()
    assert (taken.step, more, inbox.acknowledged) == (3, False, 5)


def test_a_large_frame_is_acknowledged_when_nothing_else_waits() -> None:
    inbox = Inbox(LIMITS)
    arrive(inbox, 1, 500)
    assert inbox.acknowledged == 1
    arrive(inbox, 2, 500)
    assert inbox.acknowledged == 1
    inbox.take()
    assert inbox.acknowledged == 2


def test_a_repeat_is_dropped_and_a_gap_refused() -> None:
    inbox = Inbox(LIMITS)
    arrive(inbox, 1)
    assert not inbox.expects(1, begins=True)
    assert not inbox.expects(0, begins=False)
    with pytest.raises(WireError, match="frame 3 comes after frame 1"):
        inbox.expects(3, begins=True)


def test_a_side_that_ignores_the_window_is_refused() -> None:
    inbox = Inbox(LIMITS)
    for step in range(1, 7):
        arrive(inbox, step)
    with pytest.raises(WireError, match="frame 7 comes while 3 are not acknowledged"):
        inbox.expects(7, begins=True)
    inbox = Inbox(LIMITS)
    for step in (1, 2):
        arrive(inbox, step, 900)
    with pytest.raises(WireError, match="frame 3 comes while 1 are not acknowledged"):
        inbox.expects(3, begins=True)


@pytest.mark.parametrize("seed", range(30))
def test_with_lost_streams_and_late_words_everything_arrives_once_in_order(seed: int) -> None:
    """Both ends by hand, over a stream that is cut at random moments."""
    draw = random.Random(seed)
    outbox, inbox, taken = Outbox(), Inbox(LIMITS), []
    sizes: list[int] = []  # of what was queued
    sent = 0
    stream: list[int] = []  # frames on the way
    words: list[int] = []  # acknowledgements on the way back

    def act(what: str) -> None:
        nonlocal sent, stream, words
        size = draw.choice([0, 10, 50, 300])
        if what == "queue" and outbox.fits(size, LIMITS):
            sizes.append(size)
            queue(outbox, frame(len(sizes), size))
        elif what == "send":
            sent = max(sent, outbox.acknowledged)  # as `Channel` does
            if kept := outbox.begin(sent + 1):
                sent += 1
                stream.append(kept[1].step)
        elif what == "arrive" and stream:
            step = stream.pop(0)
            if inbox.expects(step, begins=True):
                nbytes = sizes[step - 1]
                inbox.add(Arrival(frame(step, nbytes), step, nbytes, 0, 0.0))
            words.append(inbox.acknowledged)
        elif what == "word" and words:
            outbox.acknowledge(words.pop(0))
        elif what == "take" and len(inbox):
            taken.append(inbox.take()[0].step)
            words.append(inbox.acknowledged)
        elif what == "cut":
            stream, words = [], []
            outbox.acknowledge(inbox.acknowledged)  # as hello or welcome tells
            sent = outbox.acknowledged

    while len(taken) < 200:
        act(draw.choice("queue send arrive word take".split() * 20 + ["cut"]))
        assert len(inbox) <= 2 * LIMITS.window
    for _ in range(4 * LIMITS.window):  # over a link that holds, with nothing new
        for what in ("send", "arrive", "word", "take", "word"):
            act(what)
    assert taken == list(range(1, len(sizes) + 1))
    assert not len(outbox)
