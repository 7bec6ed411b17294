"""What a training command does about the signals that it is sent."""

import os
import signal
import threading

import pytest

from mytnano.solo import run as solo


def test_a_signal_is_a_question(capfd):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with solo.Stop() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == "\nfinishing the step; again to leave at once\n"
    with solo.Stop(patient=True) as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop.asked
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_while_the_model_is_measured_one_signal_is_enough(capfd):
    with solo.Stop() as stop:
        stop.trained()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        stop.sealing()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            stop.trained()
    assert capfd.readouterr().err == "\nfinishing the files; again to leave at once\n"


def test_outside_of_the_main_thread_no_signal_is_heard():
    before, asked = signal.getsignal(signal.SIGINT), []

    def listen():
        with solo.Stop() as stop:
            asked.append((stop.asked, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert asked == [(False, before)]
