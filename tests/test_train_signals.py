"""What a training command does about the signals that it is sent."""

import os
import signal
import threading

import pytest

from mytnano.solo import run as solo


def test_a_signal_is_a_question():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with solo.Stop() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    with solo.Stop(patient=True) as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop.asked
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_of_the_main_thread_no_signal_is_heard():
    before, asked = signal.getsignal(signal.SIGINT), []

    def listen():
        with solo.Stop() as stop:
            asked.append((stop.asked, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert asked == [(False, before)]
