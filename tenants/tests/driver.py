"""The run's side of the tenant protocol, as small as the tests need it. Standard library only."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
TENANTS = os.path.dirname(HERE)


class TenantError(Exception):
    """The tenant wrote an `error` line."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text = kind, text


class Gone(Exception):
    """The tenant closed its descriptor."""


class Silent(Exception):
    """Nothing was heard in time."""


@dataclass
class Iteration:
    """One `it` line. Times in ns."""

    start: int
    end: int
    options: dict[str, int] = field(default_factory=dict)


class Tenant:
    """A program under the protocol."""

    def __init__(self, command: Sequence[str], env: dict[str, str] | None = None, timeout: float = 20.0) -> None:
        self.timeout = timeout
        to_tenant, self.write_fd = os.pipe()[0:2]
        self.read_fd, from_tenant = os.pipe()[0:2]
        environment = {**os.environ, "PYTHONPATH": TENANTS, **(env or {})}
        environment.update(COTENANT_IN=str(to_tenant), COTENANT_OUT=str(from_tenant))
        self.stdout, self.stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            list(command),
            env=environment,
            pass_fds=(to_tenant, from_tenant),
            stdin=subprocess.DEVNULL,
            stdout=self.stdout,
            stderr=self.stderr,
        )
        os.close(to_tenant)
        os.close(from_tenant)
        self.buffer = b""
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> Tenant:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_in()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.read_fd)
        self.stdout.close()
        self.stderr.close()

    def close_in(self) -> None:
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def send(self, line: str) -> None:
        os.write(self.write_fd, (line + "\n").encode())

    def line(self, timeout: float | None = None) -> str:
        """The next line that is neither note nor fact."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            raw, found, rest = self.buffer.partition(b"\n")
            if found:
                self.buffer = rest
                line = raw.decode()
                self.lines.append(line)
                word, _, text = line.partition(" ")
                if word == "note":
                    self.notes.append(text)
                elif word == "fact":
                    key, _, value = text.partition(" ")
                    self.facts[key] = json.loads(value)
                elif word == "error":
                    kind, _, message = text.partition(" ")
                    raise TenantError(kind, message)
                else:
                    return line
                continue
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.read_fd], [], [], left)[0]:
                raise Silent(f"after {self.lines[-1:]}")
            data = os.read(self.read_fd, 1 << 16)
            if not data:
                raise Gone(f"after {self.lines[-1:]}; {self.tail()}")
            self.buffer += data

    def expect(self, wanted: str, timeout: float | None = None) -> None:
        line = self.line(timeout)
        if line != wanted:
            raise AssertionError(f"expected {wanted!r}, got {line!r}")

    def greet(self) -> None:
        self.expect("hello 1")
        self.expect("ready")

    def setup(self, **workload: Any) -> dict[str, Any]:
        self.facts = {}
        self.send("setup " + json.dumps(workload))
        self.expect("ready")
        return self.facts

    def arm(
        self, iterations: int, warmup: int = 0, until: str = "count", gap: int = 0, arrivals: Sequence[int] = ()
    ) -> None:
        tail = f" arrivals={','.join(map(str, arrivals))}" if arrivals else ""
        self.send(f"arm warmup={warmup} iterations={iterations} until={until} gap={gap}{tail}")
        self.expect("armed")

    def go(self, delay_ns: int = 3_000_000) -> int:
        at = time.monotonic_ns() + delay_ns
        self.send(f"go {at}")
        return at

    def collect(self, until: str = "done") -> tuple[list[Iteration], bool]:
        """Iterations up to the line `until`, and whether `enough` was among the lines."""
        out: list[Iteration] = []
        enough = False
        while True:
            line = self.line()
            if line == "enough":
                enough = True
            elif line.startswith("it "):
                words = line.split(" ")
                options = dict((k, int(v)) for k, v in (w.split("=") for w in words[3:]))
                out.append(Iteration(int(words[1]), int(words[2]), options))
            elif line != until:
                raise AssertionError(f"unexpected {line!r}")
            if line == until:
                return out, enough

    def phase(self, iterations: int, **options: Any) -> tuple[int, list[Iteration]]:
        self.arm(iterations, **options)
        at = self.go()
        return at, self.collect()[0]

    def end(self) -> int:
        """`exit`, then the program's status."""
        self.send("exit")
        return self.process.wait(self.timeout)

    def tail(self) -> str:
        self.stderr.seek(0)
        return self.stderr.read()[-2000:].decode(errors="replace")

    def said(self) -> str:
        self.stdout.seek(0)
        return self.stdout.read().decode(errors="replace")


def python(*arguments: str, **options: Any) -> Tenant:
    return Tenant([sys.executable, *arguments], **options)
