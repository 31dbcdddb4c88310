"""Lets `cotenant` measure a Python program iteration by iteration.

One file, standard library only, Python 3.9 or newer. Put it beside your program (or on ``PYTHONPATH``) and mark
what one iteration is::

    import cotenant

    while True:
        with cotenant.iteration():
            model(batch)

or ``for _ in cotenant.iterations(): model(batch)``. Import it before anything slow: the import greets the run.

* Started by ``cotenant run``, the program is led through warm-up, the barrier and the measured phases from the entry
  of ``iteration()``, which also ends the program (``SystemExit``) when the run needs it no longer. So loop for ever.
* Started by hand, without ``COTENANT_IN`` and ``COTENANT_OUT``, all of this costs a fraction of a microsecond and
  does nothing.
* If torch is loaded and uses CUDA, an iteration ends when the current device has finished all work, and two CUDA
  events on the current stream around it give the event time. ``sync=False`` leaves both out: then the program has to
  wait for its own work before the iteration ends, or what is measured is only how fast it is submitted.

Threads: one thread has the loop. Which one does not matter, but iterations must not overlap, and it must be the main
thread for the run to be able to end the program. Forks: a forked child is no tenant; it closes its copies of the
descriptors and runs on as if started by hand.

The protocol is described in docs/tenant-protocol.md.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import sys
import time
from array import array
from collections.abc import Iterator
from typing import Any, Callable

__all__ = [
    "Failure",
    "active",
    "fact",
    "fail",
    "iteration",
    "iterations",
    "note",
    "on_armed",
    "on_setup",
    "ready",
]

#: Version of the protocol that this file speaks.
PROTOCOL = 1

#: Longest command that is read, bytes. An `arm` with 100,000 arrivals has a good megabyte.
MAX_LINE = 1 << 22
#: Longest time that lines of finished iterations are kept in memory, ns.
KEEP_NS = 500_000_000
#: The last part of a wait is spent spinning on the clock: sleeping wakes up late by 50 us and more, ns.
SPIN_NS = 200_000
#: The same for the barrier, where all tenants wait together, ns.
BARRIER_SPIN_NS = 2_000_000

_now = time.monotonic_ns

# Where the program stands in the protocol.
_IDLE, _WARM, _RUN, _SERVED, _OVER = range(5)


class Failure(Exception):
    """An error that the run should hear of as KIND (``memory``, ``unavailable`` or ``failed``) and TEXT."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def _one_line(text: str, limit: int = 1000) -> str:
    """The text without line ends, cut to `limit` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _describe(exc: BaseException) -> tuple[str, str]:
    """KIND and TEXT of the `error` line for an exception."""
    if isinstance(exc, Failure):
        return exc.kind, _one_line(str(exc))
    text = _one_line(str(exc))
    low = text.lower()
    if (
        type(exc).__name__ == "OutOfMemoryError"
        or "cuda error: out of memory" in low
        or "cublas_status_alloc_failed" in low
    ):
        # torch goes on with advice about its allocator; what was asked and what is free stands before it.
        return "memory", text.split(" is free.")[0] + (" is free" if " is free." in text else "")
    if isinstance(exc, MemoryError):
        return "memory", text or "out of host memory"
    if isinstance(exc, KeyboardInterrupt):
        return "failed", "interrupted"
    if isinstance(exc, SystemExit):
        return "failed", f"the program exited with {exc.code!r} inside an iteration"
    name = type(exc).__name__
    return "failed", f"{name}: {text}" if text else name


class _Link:
    """Lines over the two descriptors."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd, self.write_fd = read_fd, write_fd
        self.buffer = b""
        self.ended = False
        self.poller = select.poll()
        self.poller.register(read_fd, select.POLLIN)

    def send(self, text: str) -> None:
        """Writes whole lines. A reader that has gone counts as an end of file on our side."""
        data = memoryview(text.encode("utf-8", "replace"))
        while data:
            try:
                data = data[os.write(self.write_fd, data) :]
            except BlockingIOError:
                writable = select.poll()
                writable.register(self.write_fd, select.POLLOUT)
                writable.poll()
            except OSError:
                self.ended = True
                return

    def _take(self) -> str | None:
        line, found, rest = self.buffer.partition(b"\n")
        if not found:
            if len(self.buffer) > MAX_LINE:
                raise Failure("failed", f"cotenant wrote a line longer than {MAX_LINE} bytes")
            return None
        self.buffer = rest
        return line.decode("utf-8", "replace").rstrip("\r")

    def _fill(self) -> None:
        try:
            data = os.read(self.read_fd, 65536)
        except BlockingIOError:
            self.poller.poll()
            return
        except OSError:
            data = b""
        if data:
            self.buffer += data
        else:
            self.ended = True

    def wait(self) -> str | None:
        """The next line, or None at the end of file."""
        while True:
            line = self._take()
            if line is not None or self.ended:
                return line
            self._fill()

    def look(self, timeout_ms: int = 0) -> str | None:
        """The next line if there is one within the time-out; None otherwise (see also `ended`)."""
        if self.buffer:
            line = self._take()
            if line is not None:
                return line
        if not self.ended and self.poller.poll(timeout_ms):
            self._fill()
            return self._take()
        return None


class _PassThrough:
    """What `iteration()` is in a program that nobody measures."""

    __slots__ = ("tokens",)
    tokens: int | None

    def __enter__(self) -> _PassThrough:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class _Session:
    """The protocol's state, driven by entries and exits of iterations."""

    def __init__(self, link: _Link) -> None:
        self.link = link
        self.state = _IDLE
        self.said_ready = False
        self.inside = False
        self.setup: Callable[[dict[str, Any]], None] | None = None
        self.armed: Callable[[], None] | None = None
        # The phase: how much is asked for and how much was done.
        self.warmup_left = 0
        self.count = 0
        self.iterations = 0
        self.until_stop = False
        self.gap = 0
        self.arrivals: list[int] = []
        self.at = 0
        self.fresh = False
        self.last_end = 0
        # Five numbers for each iteration: begin, end, event time, tokens, arrival; -1 is "not given". An array and not
        # a list of tuples, so that the loop makes no objects for the garbage collector to count.
        self.kept = array("q")
        self.last_flush = 0
        # The iteration under way.
        self.tokens: int | None = None
        self.sync = True
        self.start = 0
        self.arrival = -1
        self.cuda: Any = None
        self.before: Any = None
        self.after: Any = None
        self.marked = False

    # -- the loop -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> _Session:
        if self.inside:
            raise RuntimeError("cotenant.iteration() was entered again before it was left; iterations must not overlap")
        # Until there is something to run. Every turn is one step of the protocol.
        while not (self.state == _RUN and self._next_measured()) and not (self.state == _WARM and self.warmup_left > 0):
            self._step()
        self.inside = True
        self.start = _now()
        if self.cuda is not None and self.sync:
            self.before.record()
            self.marked = True
        return self

    def __exit__(self, exc_type: Any, exc: Any, _tb: Any) -> None:
        event = -1
        if exc_type is None and self.sync:
            if self.marked:
                self.after.record()
                self.cuda.synchronize()
            elif self.cuda is None:
                self._find_cuda()
        end = _now()
        self.inside = False
        if exc_type is not None:
            self.marked = False
            if exc_type is not GeneratorExit:
                self.report(exc)
            return
        if self.marked:
            self.marked = False
            event = round(self.before.elapsed_time(self.after) * 1e6)
        if self.state == _WARM:
            self.warmup_left -= 1
            return
        self.last_end = end
        tokens = self.tokens
        self.kept.extend((self.start, end, event, -1 if tokens is None else int(tokens), self.arrival))
        self.count += 1
        if self.count == self.iterations:
            self._have_all()
        elif end - self.last_flush > KEEP_NS:
            self._flush()

    def _have_all(self) -> None:
        if not self.until_stop:
            self._finish()
            return
        self._flush()
        self.link.send("enough\n")
        if self.arrivals:
            self.state = _SERVED

    def _next_measured(self) -> bool:
        """Waits for the start of the next measured iteration; False when a command ended the phase instead."""
        if not self.fresh:
            line = self.link.look()
            if line is not None or self.link.ended:
                self._in_phase(line)
                return False
            if self.gap and not self._wait_until(self.last_end + self.gap):
                return False
        self.fresh = False
        if self.arrivals:
            self.arrival = self.at + self.arrivals[self.count]
            return self._wait_until(self.arrival)
        return True

    def _wait_until(self, when: int) -> bool:
        """Sleeps, then spins, until `when`; False when a command ended the phase meanwhile."""
        while True:
            left = when - _now()
            if left <= SPIN_NS:
                break
            if left > 4_000_000:
                # Whole milliseconds, during which a command is heard at once.
                line = self.link.look((left - 2_000_000) // 1_000_000)
                if line is not None or self.link.ended:
                    self._in_phase(line)
                    return False
            else:
                time.sleep((left - SPIN_NS) / 1e9)
            if self.kept and _now() - self.last_flush > KEEP_NS:
                self._flush()
        while _now() < when:
            pass
        return True

    def _find_cuda(self) -> None:
        """If torch uses CUDA by now: waits for its work, and prepares the events for the iterations to come."""
        torch = sys.modules.get("torch")
        cuda = getattr(torch, "cuda", None)
        if cuda is None or not cuda.is_initialized():
            return
        self.before, self.after = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        # The events are created at their first recording: do that now and not within an iteration.
        self.before.record()
        self.after.record()
        cuda.synchronize()
        self.cuda = cuda

    # -- the protocol -------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        """One step that is not an iteration."""
        if self.state == _IDLE:
            self.say_ready()
            self._idle(self.link.wait())
        elif self.state == _WARM:
            self._meet()
        elif self.state == _SERVED:
            self._in_phase(self.link.wait())
        elif self.state == _OVER:
            raise SystemExit(0)

    def say_ready(self) -> None:
        if not self.said_ready:
            self.said_ready = True
            self.link.send("ready\n")

    def _idle(self, line: str | None) -> None:
        word, _, rest = (line if line is not None else "exit").partition(" ")
        if word == "exit":
            self._leave()
        elif word == "arm":
            self._arm(rest)
        elif word == "setup":
            self._setup(rest)
        elif word != "stop":  # a stop that crossed our `done` on the way is late and means nothing
            self._give_up(f'cotenant wrote "{_one_line(word, 40)}" where setup, arm or exit can stand')

    def _setup(self, text: str) -> None:
        if self.setup is None:
            self._give_up("cotenant sent a setup, and this program takes none")
            return
        try:
            self.setup(json.loads(text))
        except BaseException as exc:
            self.report(exc)
            raise
        self.said_ready = False
        self.say_ready()

    def _arm(self, text: str) -> None:
        options = dict(word.split("=", 1) for word in text.split(" ") if "=" in word)
        try:
            self.warmup_left = int(options.get("warmup", "0"))
            self.iterations = int(options["iterations"])
            self.gap = int(options.get("gap", "0"))
            arrivals = options.get("arrivals", "")
            self.arrivals = [int(word) for word in arrivals.split(",")] if arrivals else []
            until = options.get("until", "count")
        except (KeyError, ValueError) as exc:
            self._give_up(f"cotenant sent an arm that cannot be read: {type(exc).__name__} {exc}")
            return
        if until not in ("count", "stop"):
            self._give_up(f"cotenant asked for until={_one_line(until, 40)}, and only count and stop are known")
        elif self.iterations < 1:
            self._give_up("cotenant asked for no iterations")
        elif self.arrivals and len(self.arrivals) < self.iterations:
            self._give_up(f"cotenant sent {len(self.arrivals)} arrivals for {self.iterations} iterations")
        self.until_stop = until == "stop"
        self.count, self.arrival = 0, -1
        self.state = _WARM

    def _meet(self) -> None:
        """Warmed up: stands at the barrier until the run says when to go."""
        if self.sync and self.cuda is not None:
            self.cuda.synchronize()
        if self.armed is not None:
            self.armed()
        self.link.send("armed\n")
        line = self.link.wait()
        word, _, rest = (line if line is not None else "exit").partition(" ")
        if word == "exit":
            self._leave()
        if word == "stop":
            self._finish()
            return
        if word != "go" or not rest.isdigit():
            self._give_up(f'cotenant wrote "{_one_line(line or "", 40)}" where go AT can stand')
        self.at = at = int(rest)
        self.fresh = True
        self.state = _RUN
        pause = at - _now() - BARRIER_SPIN_NS
        if pause > 0:
            time.sleep(pause / 1e9)
        while _now() < at:
            pass
        self.last_flush = at

    def _in_phase(self, line: str | None) -> None:
        if line == "stop":
            self._finish()
        elif line is None or line == "exit":
            self._leave()
        else:
            self._give_up(f'cotenant wrote "{_one_line(line, 40)}" within a phase, where stop or exit can stand')

    def _flush(self) -> None:
        kept, lines = self.kept, []
        for i in range(0, len(kept), 5):
            line = f"it {kept[i]} {kept[i + 1]}"
            if kept[i + 2] >= 0:
                line += f" event={kept[i + 2]}"
            if kept[i + 3] >= 0:
                line += f" tokens={kept[i + 3]}"
            if kept[i + 4] >= 0:
                line += f" arrival={kept[i + 4]}"
            lines.append(line)
        if lines:
            lines.append("")
            self.link.send("\n".join(lines))
            self.kept = array("q")
        self.last_flush = _now()

    def _finish(self) -> None:
        self._flush()
        self.link.send("done\n")
        self.state = _IDLE

    def _leave(self) -> None:
        """The run is through with the program."""
        self.state = _OVER
        raise SystemExit(0)

    # -- errors -------------------------------------------------------------------------------------------------------

    def report(self, exc: BaseException) -> None:
        """Tells the run why the program cannot go on; once."""
        if self.state != _OVER and not (isinstance(exc, SystemExit) and not self.inside and exc.code in (None, 0)):
            self.error(*_describe(exc))

    def error(self, kind: str, text: str) -> None:
        if self.state != _OVER:
            self.state = _OVER
            self.link.send(f"error {kind} {_one_line(text)}\n")

    def _give_up(self, text: str) -> None:
        self.error("failed", text)
        raise SystemExit(1)

    def at_exit(self) -> None:
        """The program ends without having been told to: says how far it came."""
        if self.state == _OVER or self.link.ended:
            return
        died = getattr(sys, "last_value", None)
        advice = "loop until cotenant ends the program"
        if died is not None:
            self.error(*_describe(died))
        elif not self.said_ready:
            self.error("failed", f"the program ended before its first iteration; {advice}")
        elif self.state == _IDLE:
            self.error("failed", f"the loop ended between two phases; {advice}")
        else:
            self.error("failed", f"the loop ended after {self.count} of {self.iterations} iterations; {advice}")


_PASS = _PassThrough()
_session: _Session | None = None


def _descriptor(name: str) -> int | None:
    text = os.environ.get(name)
    if text is None:
        return None
    try:
        number = int(text)
        os.set_inheritable(number, False)
    except (ValueError, OSError, OverflowError):
        raise RuntimeError(
            f"{name}={text} is not the number of an open descriptor; if a wrapper starts the program, let it pass "
            f"descriptors on (in Python: subprocess.Popen(..., pass_fds=...)), or unset {name}"
        ) from None
    return number


def _connect() -> None:
    global _session
    read_fd, write_fd = _descriptor("COTENANT_IN"), _descriptor("COTENANT_OUT")
    if read_fd is None or write_fd is None:
        return
    # Programs that this one starts are no tenants.
    del os.environ["COTENANT_IN"], os.environ["COTENANT_OUT"]
    _session = _Session(_Link(read_fd, write_fd))
    _session.link.send(f"hello {PROTOCOL}\n")
    atexit.register(_at_exit)
    os.register_at_fork(after_in_child=_forked)


def _at_exit() -> None:
    if _session is not None:
        _session.at_exit()


def _forked() -> None:
    """A child that keeps the descriptors would hide this program's death from the run."""
    global _session
    if _session is not None:
        for fd in {_session.link.read_fd, _session.link.write_fd}:
            try:
                os.close(fd)
            except OSError:
                pass
        _session = None


# -- what programs use ------------------------------------------------------------------------------------------------


def active() -> bool:
    """Whether the program is being measured."""
    return _session is not None


def iteration(tokens: int | None = None, sync: bool = True) -> _Session | _PassThrough:
    """One iteration, as a context: ``with cotenant.iteration(): …``.

    `tokens` is how many tokens (or samples, or whatever you count) it produces; it may also be set inside, as
    ``with cotenant.iteration() as it: it.tokens = n``. With `sync=False` nothing is done about CUDA.

    Entering it waits for whatever the run wants to happen first, and raises `SystemExit` when the program should end.
    An exception inside is reported to the run and goes on its way.
    """
    session = _session
    if session is None:
        return _PASS
    session.tokens = tokens
    session.sync = sync
    return session


def iterations(tokens: int | None = None, sync: bool = True, alone: int | None = None) -> Iterator[int]:
    """Iterations as a loop: ``for i in cotenant.iterations(): …``; the body is one iteration.

    `alone` is how many there are when nobody measures (default: no end). See `iteration` for the rest.
    """
    i = 0
    while _session is not None or alone is None or i < alone:
        with iteration(tokens, sync):
            yield i
        i += 1


def ready() -> None:
    """Says that the program is set up. Without it the first iteration says so."""
    if _session is not None:
        _session.say_ready()


def note(text: str) -> None:
    """Tells what the program is doing; shown if it then fails or hangs."""
    if _session is not None and _session.state != _OVER:
        _session.link.send(f"note {_one_line(text)}\n")


def fact(key: str, value: Any) -> None:
    """Puts something into the record, before the first iteration.

    `value` is what JSON can say (numbers must be finite); anything else goes in as its text.
    """
    if _session is not None and _session.state != _OVER:
        _session.link.send(f"fact {'_'.join(key.split())} {json.dumps(value, allow_nan=False, default=str)}\n")


def fail(text: str, kind: str = "failed") -> None:
    """Tells the run why the program cannot go on and exits with status 1.

    `kind` is ``memory``, ``unavailable`` (this machine lacks something) or ``failed``.
    """
    if _session is not None:
        _session.error(kind, text)
    sys.stderr.write(f"error: {text}\n")
    raise SystemExit(1)


def on_setup(take: Callable[[dict[str, Any]], None]) -> None:
    """For programs that are started to be given a workload: `take` gets each ``setup`` as a dict.

    It is called from the entry of `iteration`; `ready` is said when it returns.
    """
    if _session is not None:
        _session.setup = take


def on_armed(settle: Callable[[], None]) -> None:
    """Calls `settle` after each warm-up, right before the barrier: the place for housekeeping (``gc.collect``)."""
    if _session is not None:
        _session.armed = settle


_connect()
