"""TensorBoard writes in a thread, whose errors Python tells with a traceback."""

import threading

__all__ = ["QuietThreads"]


class QuietThreads:
    """For `threading.excepthook`: no traceback for errors of the system in threads that begin from
    now on, since who uses them is told at the next call. All else goes to the hook of before."""

    def __init__(self) -> None:
        self.others = set(threading.enumerate())
        self.before = threading.excepthook

    def __call__(self, args: threading.ExceptHookArgs) -> None:
        if args.thread in self.others or not isinstance(args.exc_value, OSError):
            self.before(args)
