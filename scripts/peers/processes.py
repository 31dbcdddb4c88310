"""A command with all its descendants: what they used, how much memory they took, and that none is left. Linux, standard library only."""
import ctypes
import os
import signal
import subprocess
import time
from bisect import bisect_left
from dataclasses import dataclass, field

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
# How often CPU time and RSS are read; how often the processes are looked for; how often PSS is read, which costs the kernel a walk
# over all pages of a process while the tool is measured.
EVERY_S, LOOK_S, PSS_S = 0.05, 0.5, 2.0
# What is left when the command has ended gets so long before it is killed.
GRACE_S = 5.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans():
    """Descendants whose parent ends become children of this process: none escapes, and each is waited for and so counted."""
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def start(command, **options):
    """A child in a session of its own that does not outlive this process, whatever ends it."""
    # The function after fork only calls what is loaded already.
    options = {"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
    return subprocess.Popen([str(c) for c in command], preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), **options)


def read_stat(pid):
    """Parent, CPU seconds with those of reaped children, and RSS in bytes; None when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold spaces and brackets; behind its last bracket come state, parent, …
    f = text[text.rindex(b")") + 2 :].split()
    return int(f[1]), sum(map(int, f[11:15])) / TICK, int(f[21]) * PAGE


def read_pss(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def descendants(root, without):
    """All processes below `root`, leaving out those in `without` and what is below them."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := read_stat(name)):
            children.setdefault(stat[0], []).append(int(name))
    found, todo = set(), [root]
    while todo:
        for pid in children.get(todo.pop(), []):
            if pid not in without:
                found.add(pid)
                todo.append(pid)
    return found


def machine_cpu_s():
    """CPU seconds of all processes since boot, and those that the hypervisor kept."""
    with open("/proc/stat") as file:
        f = [int(x) / TICK for x in file.readline().split()[1:9]]
    return f[0] + f[1] + f[2] + f[5] + f[6], f[7]


@dataclass
class Watched:
    """What a command did. Times are of CLOCK_MONOTONIC, ns, on which the token server writes its truth too."""

    start_ns: int
    end_ns: int = 0
    code: int = 0  # as of subprocess: negative for a signal
    timed_out: bool = False
    # CPU seconds of the whole tree, of every process that was waited for (wait4).
    cpu_s: float = 0.0
    peak_rss: int = 0  # sum over processes: what they share counts several times
    peak_pss: int = 0  # sum of the processes' shares
    most_processes: int = 0
    samples: list = field(default_factory=list)  # (time, CPU seconds until then)

    def cpu_until(self, ns):
        """CPU seconds used until a time, between samples in proportion."""
        at = bisect_left(self.samples, (ns, 0.0))
        if at == 0:
            return 0.0
        if at == len(self.samples):
            return self.cpu_s
        (t0, c0), (t1, c1) = self.samples[at - 1], self.samples[at]
        return c0 + (c1 - c0) * (ns - t0) / max(t1 - t0, 1)


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def watch(command, server_pid, timeout_s, **options):
    """Runs a command to its end and watches it; the server is a child of this process that is not of the command."""
    out = Watched(time.monotonic_ns())
    child = start(command, **options)
    tree, running, ended_at = {child.pid}, True, None
    look_at, pss_at = 0.0, 1.0
    try:
        while True:
            while True:
                try:
                    pid, status, usage = os.wait4(-1, os.WNOHANG)
                except ChildProcessError:
                    raise RuntimeError("the token server is gone") from None
                if pid == 0:
                    break
                if pid == server_pid:
                    raise RuntimeError("the token server ended")
                out.cpu_s += usage.ru_utime + usage.ru_stime
                if pid == child.pid:
                    child.returncode = out.code = os.waitstatus_to_exitcode(status)
                    running, out.end_ns, ended_at = False, time.monotonic_ns(), time.monotonic()
            now = time.monotonic_ns()
            up_s = (now - out.start_ns) / 1e9
            if up_s >= look_at or not running:
                tree, look_at = descendants(os.getpid(), {server_pid}), up_s + LOOK_S
            if not running and not tree:
                return out
            stats = [s for s in map(read_stat, tree) if s]
            out.samples.append((now, out.cpu_s + sum(s[1] for s in stats)))
            out.peak_rss = max(out.peak_rss, sum(s[2] for s in stats))
            out.most_processes = max(out.most_processes, len(stats))
            if up_s >= pss_at:
                out.peak_pss, pss_at = max(out.peak_pss, sum(map(read_pss, tree))), up_s + PSS_S
            if running and up_s > timeout_s:
                out.timed_out = True
                kill(tree)
            elif ended_at and time.monotonic() - ended_at > GRACE_S:
                kill(tree)
            time.sleep(EVERY_S)
    finally:
        # On an error or an interrupt; else nothing is left.
        kill_all({server_pid})


def kill_all(but):
    """Kills and waits for every descendant of this process that is not in `but`."""
    for _ in range(100):
        left = descendants(os.getpid(), but)
        if not left:
            return
        kill(left)
        for pid in left:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
        time.sleep(0.02)
