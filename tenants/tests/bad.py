"""Scripted tenants that misbehave: `bad.py MODE`. They write the protocol by hand, so that they can break it.

Each does everything right up to the point that its mode names.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Callable, NoReturn

READ, WRITE = int(os.environ.get("COTENANT_IN", "0")), int(os.environ.get("COTENANT_OUT", "1"))
_buffer = b""


def say(line: str) -> None:
    os.write(WRITE, (line + "\n").encode())


def hear() -> str:
    """The next command; `exit` at the end of file."""
    global _buffer
    while b"\n" not in _buffer:
        data = os.read(READ, 4096)
        if not data:
            return "exit"
        _buffer += data
    line, _, _buffer = _buffer.partition(b"\n")
    return line.decode()


def hang() -> NoReturn:
    """Does nothing any more, not even at the end of file; a stop by signal works."""
    while True:
        time.sleep(3600)


UNTIL = "count"


def open_phase(again: bool = False) -> int:
    """Up to the start of the first phase, or of another one; the number of iterations asked for."""
    global UNTIL
    if not again:
        say("hello 1")
        say("ready")
    arm = hear()
    if not arm.startswith("arm "):
        sys.exit(0)
    say("armed")
    go = hear()
    if not go.startswith("go "):
        sys.exit(0)
    at = int(go.split(" ")[1])
    while time.monotonic_ns() < at:
        time.sleep(0.0001)
    options = dict(word.split("=", 1) for word in arm.split(" ")[1:])
    UNTIL = options["until"]
    return int(options["iterations"])


def iteration(ms: float = 1.0) -> None:
    start = time.monotonic_ns()
    time.sleep(ms / 1e3)
    say(f"it {start} {time.monotonic_ns()}")


def no_torch() -> None:
    """Python without torch."""
    say("hello 1")
    say(f"error unavailable {sys.executable} has no module torch: install torch and transformers for it")
    sys.exit(1)


def memory() -> None:
    """Out of memory while it sets up."""
    say("hello 1")
    say("note loading weights")
    sys.stderr.write("torch.OutOfMemoryError: CUDA out of memory.\n")
    say("error memory CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 79.10 GiB of which 3.25 GiB is free")
    sys.exit(1)


def hang_after_armed() -> None:
    """Armed, and then silent for ever."""
    say("hello 1")
    say("ready")
    hear()
    say("armed")
    hang()


def hang_setup() -> None:
    """Never gets ready."""
    say("hello 1")
    say("note loading weights from a disk that does not answer")
    hang()


def garbage() -> None:
    """Writes nonsense where iterations should be."""
    open_phase()
    os.write(WRITE, b"it one two\nwhat is this \xff\xfe\x00\nit 5\n")
    say("done")
    hear()


def huge_line() -> None:
    """A line that does not end."""
    open_phase()
    block = b"x" * 65536
    while True:
        os.write(WRITE, block)


def die() -> None:
    """Is killed in the middle of a phase."""
    open_phase()
    iteration()
    sys.stderr.write("about to be killed\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def exit_early() -> None:
    """Ends with status 0 in the middle of a phase and says nothing."""
    open_phase()
    iteration()
    sys.exit(0)


def stderr() -> None:
    """Prints a lot, then fails; the last lines tell why."""
    open_phase()
    for i in range(20_000):
        sys.stderr.write(f"warning {i}: nobody needs to read this\n")
    sys.stderr.write("RuntimeError: the last line tells why\n")
    sys.stderr.flush()
    say("error failed RuntimeError: the last line tells why")
    sys.exit(3)


def slow_stop() -> None:
    """Iterates on whatever it is told."""
    count = open_phase()
    while UNTIL == "count":
        for _ in range(count):
            iteration()
        say("done")
        count = open_phase(again=True)
    done = 0
    while True:
        iteration()
        done += 1
        if done == count:
            say("enough")


def duplicate_done() -> None:
    """Says done twice, and again when nobody asked."""
    for _ in range(open_phase()):
        iteration()
    say("done")
    say("done")
    while hear() != "exit":
        say("done")


def wrong_version() -> None:
    """Speaks a version that does not exist yet."""
    say("hello 99")
    say("ready")
    hear()


MODES: dict[str, Callable[[], None]] = {
    "no-torch": no_torch,
    "memory": memory,
    "hang": hang_after_armed,
    "hang-setup": hang_setup,
    "garbage": garbage,
    "huge-line": huge_line,
    "die": die,
    "exit-early": exit_early,
    "stderr": stderr,
    "slow-stop": slow_stop,
    "duplicate-done": duplicate_done,
    "wrong-version": wrong_version,
}


def main(mode: str | None) -> None:
    if mode not in MODES:
        sys.exit(f"usage: bad.py MODE, one of: {', '.join(MODES)}")
    try:
        MODES[mode]()
    except BrokenPipeError:
        # Whoever drives this has seen enough.
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
