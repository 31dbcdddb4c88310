"""The helper, the C example and the scripted tenants against a small driver.

    python3 -m unittest discover tenants/tests

Standard library only; the worker's own tests are in test_worker.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

from driver import HERE, TENANTS, Gone, Silent, Tenant, TenantError, python

MS = 1_000_000

#: Iterations of 1 ms; `tokens` counts all iterations of the program's life, so that it shows which were kept.
COUNTING = """
    import cotenant, time
    n = 0
    while True:
        with cotenant.iteration() as it:
            it.tokens = n
            n += 1
            time.sleep(0.001)
"""


def program(source: str, **options: object) -> Tenant:
    return python("-c", textwrap.dedent(source), **options)


class Phases(unittest.TestCase):
    def test_count(self) -> None:
        with program(COUNTING) as t:
            t.greet()
            t.arm(10, warmup=3)
            at = t.go()
            its, enough = t.collect()
            self.assertEqual([i.options["tokens"] for i in its], list(range(3, 13)))
            self.assertFalse(enough)
            self.assertGreaterEqual(its[0].start, at)
            self.assertLess(its[0].start - at, 5 * MS)
            for one, after in zip(its, its[1:]):
                self.assertGreaterEqual(one.end - one.start, MS)
                self.assertGreaterEqual(after.start, one.end)
            # Again, without a warm-up.
            _, its = t.phase(2)
            self.assertEqual([i.options["tokens"] for i in its], [13, 14])
            self.assertEqual(t.end(), 0)
            self.assertEqual(t.said(), "")
            self.assertEqual(t.tail(), "")

    def test_late_go_starts_at_once(self) -> None:
        with program(COUNTING) as t:
            t.greet()
            t.arm(2)
            before = time.monotonic_ns()
            at = t.go(-50 * MS)
            its, _ = t.collect()
            self.assertGreaterEqual(its[0].start, before)
            self.assertGreater(its[0].start, at)

    def test_until_stop(self) -> None:
        with program(COUNTING) as t:
            t.greet()
            t.arm(5, until="stop")
            t.go()
            first, _ = t.collect("enough")
            self.assertEqual(len(first), 5)
            time.sleep(0.02)
            t.send("stop")
            rest, enough = t.collect()
            self.assertFalse(enough)
            self.assertGreater(len(rest), 2)
            tokens = [i.options["tokens"] for i in first + rest]
            self.assertEqual(tokens, list(range(len(tokens))))
            # The program is at the end of that phase and takes another.
            self.assertEqual(len(t.phase(3)[1]), 3)

    def test_stop_ends_a_counted_phase_too(self) -> None:
        with program(COUNTING) as t:
            t.greet()
            t.arm(100_000)
            t.go()
            time.sleep(0.03)
            t.send("stop")
            its, _ = t.collect()
            self.assertTrue(1 <= len(its) < 1000, len(its))

    def test_stop_at_the_barrier_and_late_stop(self) -> None:
        with program(COUNTING) as t:
            t.greet()
            t.arm(5)
            t.send("stop")
            self.assertEqual(t.collect(), ([], False))
            t.send("stop")
            self.assertEqual(len(t.phase(5)[1]), 5)

    def test_gap(self) -> None:
        with program(COUNTING) as t:
            t.greet()
            for gap in (MS // 10, 7 * MS):
                _, its = t.phase(5, gap=gap)
                pauses = [after.start - one.end for one, after in zip(its, its[1:])]
                self.assertGreaterEqual(min(pauses), gap)
                self.assertLess(min(pauses), gap + 3 * MS)

    def test_stop_is_heard_during_a_gap(self) -> None:
        with program(COUNTING) as t:
            t.greet()
            t.arm(5, gap=30_000 * MS)
            t.go()
            time.sleep(0.1)
            begin = time.monotonic()
            t.send("stop")
            self.assertEqual(len(t.collect()[0]), 1)
            self.assertLess(time.monotonic() - begin, 5)

    def test_arrivals(self) -> None:
        with program(COUNTING) as t:
            t.greet()
            # The third and fourth come while the second is served (1 ms and a bit), the fifth after a rest.
            offsets = [2 * MS, 10 * MS, 10 * MS + 1000, 10 * MS + 2000, 40 * MS]
            t.arm(5, arrivals=offsets)
            at = t.go()
            its, _ = t.collect()
            self.assertEqual([i.options["arrival"] for i in its], [at + a for a in offsets])
            for i in its:
                self.assertGreaterEqual(i.start, i.options["arrival"])
            self.assertGreater(its[2].start - its[2].options["arrival"], MS // 2)
            self.assertLess(its[4].start - its[4].options["arrival"], 5 * MS)

    def test_arrivals_until_stop(self) -> None:
        with program(COUNTING) as t:
            t.greet()
            t.arm(2, until="stop", arrivals=[0, MS])
            t.go()
            self.assertEqual(len(t.collect("enough")[0]), 2)
            with self.assertRaises(Silent):
                t.line(0.1)
            t.send("stop")
            self.assertEqual(t.collect(), ([], False))

    def test_lines_are_kept_for_a_while_and_then_written(self) -> None:
        with program(COUNTING) as t:
            t.greet()
            t.arm(1, until="stop")
            t.go()
            t.collect("enough")
            begin = time.monotonic()
            self.assertTrue(t.line(3.5).startswith("it "))
            self.assertGreater(time.monotonic() - begin, 0.2)
            t.send("stop")
            t.collect()

    def test_overhead(self) -> None:
        with program("import cotenant\nwhile True:\n    with cotenant.iteration(): pass") as t:
            t.greet()
            _, its = t.phase(2000)
            inside = statistics.median(i.end - i.start for i in its)
            between = statistics.median(b.start - a.end for a, b in zip(its, its[1:]))
            self.assertLess(inside + between, 20_000)


class Ends(unittest.TestCase):
    def test_exit_and_end_of_file(self) -> None:
        for where in ("idle", "armed", "running", "served"):
            for close in (False, True):
                with self.subTest(where=where, close=close), program(COUNTING) as t:
                    t.greet()
                    if where != "idle":
                        until, arrivals = ("stop", [0]) if where == "served" else ("count", [])
                        t.arm(1 if where == "served" else 100_000, until=until, arrivals=arrivals)
                    if where in ("running", "served"):
                        t.go()
                        time.sleep(0.02)
                    if close:
                        t.close_in()
                    else:
                        t.send("exit")
                    self.assertEqual(t.process.wait(5), 0)
                    self.assertNotIn("Traceback", t.tail())

    def ended(self, source: str, iterations: int = 100, warmup: int = 0) -> TenantError:
        with program(source) as t, self.assertRaises(TenantError) as caught:
            t.greet()
            t.arm(iterations, warmup=warmup)
            t.go()
            t.collect()
        return caught.exception

    def test_loop_that_ends_early(self) -> None:
        e = self.ended("import cotenant\nfor _ in range(37):\n    with cotenant.iteration(): pass")
        self.assertEqual(e.kind, "failed")
        self.assertEqual(e.text, "the loop ended after 37 of 100 iterations; loop until cotenant ends the program")
        e = self.ended("import cotenant\nfor i in cotenant.iterations():\n    if i == 4: break")
        self.assertIn("after 4 of 100", e.text)
        e = self.ended("import cotenant\nfor _ in range(37):\n    with cotenant.iteration(): pass", warmup=50)
        self.assertIn("after 0 of 100", e.text)

    def test_loop_that_ends_between_phases(self) -> None:
        with program("import cotenant\nfor _ in range(3):\n    with cotenant.iteration(): pass") as t:
            t.greet()
            t.phase(3)
            with self.assertRaisesRegex(TenantError, "between two phases"):
                t.line()

    def test_no_iteration_at_all(self) -> None:
        with program("import cotenant") as t, self.assertRaisesRegex(TenantError, "before its first iteration"):
            t.greet()

    def test_exceptions(self) -> None:
        e = self.ended("import cotenant\nwhile True:\n    with cotenant.iteration(): raise ValueError('two\\nlines')")
        self.assertEqual((e.kind, e.text), ("failed", "ValueError: two lines"))
        e = self.ended("import cotenant\nwhile True:\n    with cotenant.iteration(): bytearray(1 << 60)")
        self.assertEqual(e.kind, "memory")
        e = self.ended("import cotenant, sys\nwhile True:\n    with cotenant.iteration(): sys.exit(4)")
        self.assertIn("exited with 4 inside an iteration", e.text)
        # Outside an iteration it counts as well.
        e = self.ended("import cotenant\nwith cotenant.iteration(): pass\nraise KeyError('x')")
        self.assertEqual((e.kind, e.text), ("failed", "KeyError: 'x'"))

    def test_exception_is_raised_again(self) -> None:
        with program("import cotenant\nwhile True:\n    with cotenant.iteration(): 1 / 0") as t:
            t.greet()
            t.send("arm warmup=1 iterations=1 until=count gap=0")
            with self.assertRaisesRegex(TenantError, "ZeroDivisionError"):
                t.line()
            self.assertEqual(t.process.wait(5), 1)
            self.assertIn("ZeroDivisionError", t.tail())

    def test_out_of_memory_of_torch(self) -> None:
        message = (
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.10 GiB of which 3.25 "
            "MiB is free. Of the allocated memory 78.00 GiB is allocated by PyTorch. If reserved …"
        )
        e = self.ended(
            "import cotenant\nclass OutOfMemoryError(RuntimeError): pass\nwhile True:\n"
            f"    with cotenant.iteration(): raise OutOfMemoryError({message!r})"
        )
        self.assertEqual(e.kind, "memory")
        self.assertTrue(e.text.endswith("of which 3.25 MiB is free"), e.text)

    def test_fail(self) -> None:
        with program("import cotenant\ncotenant.note('a\\nb')\ncotenant.fail('no data set', 'unavailable')") as t:
            with self.assertRaises(TenantError) as caught:
                t.greet()
            self.assertEqual((caught.exception.kind, caught.exception.text), ("unavailable", "no data set"))
            self.assertEqual(t.notes, ["a b"])
            self.assertEqual(t.process.wait(5), 1)

    def test_what_is_no_command(self) -> None:
        for line in (
            "frobnicate",
            "go 5",
            "setup {}",
            "arm warmup=0",
            "arm iterations=2 arrivals=1",
            "arm iterations=0",
        ):
            with self.subTest(line=line), program(COUNTING) as t:
                t.greet()
                t.send(line)
                with self.assertRaises(TenantError) as caught:
                    t.line()
                self.assertEqual(caught.exception.kind, "failed")
                self.assertEqual(t.process.wait(5), 1)

    def test_unknown_keys_are_ignored(self) -> None:
        with program(COUNTING) as t:
            t.greet()
            t.send("arm warmup=0 iterations=2 until=count gap=0 colour=blue")
            t.expect("armed")
            t.go()
            self.assertEqual(len(t.collect()[0]), 2)


class Surroundings(unittest.TestCase):
    def test_alone(self) -> None:
        source = """
            import cotenant, time
            assert not cotenant.active()
            cotenant.note("x"); cotenant.fact("x", 1); cotenant.ready()
            assert list(cotenant.iterations(alone=3)) == [0, 1, 2]
            begin = time.perf_counter()
            for _ in range(20000):
                with cotenant.iteration(tokens=3) as it: it.tokens = 4
            print((time.perf_counter() - begin) / 20000 * 1e6)
        """
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COTENANT")}
        command = [sys.executable, "-c", textwrap.dedent(source)]
        run = subprocess.run(command, env={**environment, "PYTHONPATH": TENANTS}, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertLess(float(run.stdout), 5.0, "microseconds for an iteration that nobody measures")

    def test_descriptor_that_is_not_open(self) -> None:
        environment = {**os.environ, "PYTHONPATH": TENANTS, "COTENANT_IN": "97", "COTENANT_OUT": "98"}
        run = subprocess.run([sys.executable, "-c", "import cotenant"], env=environment, capture_output=True, text=True)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("COTENANT_IN=97 is not the number of an open descriptor", run.stderr)

    def test_children(self) -> None:
        # A forked child that outlives the program does not hide its death, and is no tenant; nor is a started program.
        source = """
            import cotenant, os, subprocess, sys, time
            if os.fork() == 0:
                assert not cotenant.active()
                for _ in cotenant.iterations(alone=3): pass
                time.sleep(20)
                os._exit(0)
            code = "import cotenant, sys; sys.exit(cotenant.active())"
            cotenant.fact("child", subprocess.run([sys.executable, "-c", code], close_fds=False).returncode)
            while True:
                with cotenant.iteration(): time.sleep(0.001)
        """
        with program(source) as t:
            t.greet()
            self.assertEqual(t.facts, {"child": 0})
            t.process.send_signal(signal.SIGKILL)
            with self.assertRaises(Gone):
                t.line(5)

    def test_overlapping_iterations(self) -> None:
        source = "import cotenant\nwhile True:\n    with cotenant.iteration():\n        with cotenant.iteration(): pass"
        with program(source) as t:
            t.greet()
            t.send("arm warmup=0 iterations=2 until=count gap=0")
            t.expect("armed")
            t.go()
            with self.assertRaisesRegex(TenantError, "must not overlap"):
                t.collect()

    def test_cuda(self) -> None:
        # A stand-in for torch whose clock of events counts recordings: 1 ms from each to the next.
        source = """
            import sys, types
            torch, cuda, log = types.ModuleType("torch"), types.ModuleType("torch.cuda"), []
            class Event:
                def __init__(self, enable_timing): assert enable_timing
                def record(self): log.append("record"); self.at = len([w for w in log if w == "record"])
                def elapsed_time(self, other): return float(other.at - self.at)
            cuda.Event, cuda.is_initialized, cuda.synchronize = Event, lambda: started, lambda: log.append("wait")
            torch.cuda = cuda
            sys.modules["torch"] = torch
            started = False
            import cotenant
            n = 0
            while True:
                with cotenant.iteration(sync=n < 4) as it:
                    it.tokens = len(log)
                    started = n >= 1
                    n += 1
        """
        with program(source) as t:
            t.greet()
            _, its = t.phase(6)
            # Not begun; begun within; measured twice; then without synchronisation.
            self.assertEqual([i.options.get("event") for i in its], [None, None, MS, MS, None, None])
            self.assertEqual([i.options["tokens"] for i in its], [0, 0, 4, 7, 9, 9])

    def test_setup(self) -> None:
        source = """
            import cotenant
            def take(setup): cotenant.fact("got", setup["x"]); 1 / setup["x"]
            cotenant.on_setup(take)
            cotenant.on_armed(lambda: cotenant.note("armed"))
            cotenant.ready()
            while True:
                with cotenant.iteration(): pass
        """
        with program(source) as t:
            t.greet()
            self.assertEqual(t.setup(x=5), {"got": 5})
            t.phase(2)
            self.assertEqual(t.notes, ["armed"])
            self.assertEqual(t.setup(x=6), {"got": 6})
            with self.assertRaisesRegex(TenantError, "failed: ZeroDivisionError"):
                t.setup(x=0)
            self.assertEqual(t.process.wait(5), 1)


class Examples(unittest.TestCase):
    def test_python(self) -> None:
        with python(os.path.join(TENANTS, "example.py")) as t:
            t.greet()
            self.assertEqual(len(t.phase(5)[1]), 5)
            self.assertEqual(t.end(), 0)
        run = subprocess.run([sys.executable, os.path.join(TENANTS, "example.py")], capture_output=True, text=True)
        self.assertEqual((run.returncode, len(run.stdout.splitlines())), (0, 100))

    @unittest.skipUnless(shutil.which("cc"), "no C compiler (cc) on the path")
    def test_c(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            binary = os.path.join(folder, "example")
            command = [
                "cc",
                "-std=c99",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-O2",
                "-o",
                binary,
                os.path.join(TENANTS, "example.c"),
            ]
            subprocess.run(command, check=True)
            with Tenant([binary, "2"]) as t:
                t.greet()
                t.arm(4, warmup=2)
                at = t.go()
                its, _ = t.collect()
                self.assertEqual(len(its), 4)
                self.assertTrue(at <= its[0].start < at + 5 * MS)
                self.assertTrue(2 * MS <= statistics.median(i.end - i.start for i in its) < 3 * MS)
                _, its = t.phase(3, gap=5 * MS)
                self.assertGreaterEqual(its[1].start - its[0].end, 5 * MS)
                # Until stop.
                t.arm(3, until="stop")
                t.go()
                first, _ = t.collect("enough")
                t.send("stop")
                rest, _ = t.collect()
                self.assertEqual(len(first), 3)
                self.assertLess(len(rest), 100)
                t.send("stop")  # late: passed over
                # Open loop, the second late.
                t.arm(3, until="stop", arrivals=[MS, MS + 1000, 20 * MS])
                at = t.go()
                its, _ = t.collect("enough")
                self.assertEqual([i.options["arrival"] - at for i in its], [MS, MS + 1000, 20 * MS])
                self.assertGreaterEqual(its[1].start, its[0].end)
                self.assertGreaterEqual(its[2].start, at + 20 * MS)
                t.send("stop")
                self.assertEqual(t.collect(), ([], False))
                # Stop at the barrier, then the end.
                t.arm(3)
                t.send("stop")
                self.assertEqual(t.collect(), ([], False))
                self.assertEqual(t.end(), 0)
            with Tenant([binary]) as t:
                t.greet()
                t.close_in()
                self.assertEqual(t.process.wait(5), 0)


class Scripted(unittest.TestCase):
    """The scripted tenants do what other tests rely on them to do."""

    def bad(self, mode: str) -> Tenant:
        return python(os.path.join(HERE, "bad.py"), mode)

    def run_phase(self, t: Tenant, n: int = 3, until: str = "count") -> None:
        t.greet()
        t.arm(n, until=until)
        t.go()

    def test_good(self) -> None:
        with python(os.path.join(HERE, "good.py"), "--ms", "3", "--spin", "--tokens", "8") as t:
            t.greet()
            self.assertEqual(t.facts, {"length_ns": 3 * MS})
            _, its = t.phase(5, warmup=1)
            self.assertTrue(3 * MS <= statistics.median(i.end - i.start for i in its) < 4 * MS)
            self.assertEqual({i.options["tokens"] for i in its}, {8})

    def test_errors(self) -> None:
        for mode, kind in (("no-torch", "unavailable"), ("memory", "memory")):
            with self.subTest(mode), self.bad(mode) as t, self.assertRaises(TenantError) as caught:
                t.greet()
            self.assertEqual(caught.exception.kind, kind)

    def test_silence(self) -> None:
        with self.bad("hang") as t:
            self.run_phase(t)
            with self.assertRaises(Silent):
                t.line(0.2)
        with self.bad("hang-setup") as t:
            t.expect("hello 1")
            with self.assertRaises(Silent):
                t.line(0.2)

    def test_nonsense(self) -> None:
        with self.bad("garbage") as t:
            self.run_phase(t)
            with self.assertRaises((ValueError, AssertionError, UnicodeDecodeError)):
                t.collect()
        with self.bad("huge-line") as t:
            self.run_phase(t)
            got = 0
            while got < 4 << 20:
                data = os.read(t.read_fd, 1 << 16)
                self.assertNotIn(b"\n", data)
                got += len(data)
        with self.bad("wrong-version") as t:
            self.assertEqual(t.line(), "hello 99")

    def test_deaths(self) -> None:
        for mode, status in (("die", -signal.SIGKILL), ("exit-early", 0)):
            with self.subTest(mode), self.bad(mode) as t:
                self.run_phase(t, 10)
                with self.assertRaises(Gone):
                    t.collect()
                self.assertEqual(t.process.wait(5), status)

    def test_stderr(self) -> None:
        with self.bad("stderr") as t:
            self.run_phase(t)
            with self.assertRaisesRegex(TenantError, "the last line tells why"):
                t.collect()
            self.assertEqual(t.process.wait(5), 3)
            self.assertIn("RuntimeError: the last line tells why", t.tail())

    def test_slow_stop(self) -> None:
        with self.bad("slow-stop") as t:
            self.run_phase(t, until="stop")
            t.collect("enough")
            t.send("stop")
            for _ in range(50):
                self.assertTrue(t.line().startswith("it "))

    def test_duplicate_done(self) -> None:
        with self.bad("duplicate-done") as t:
            self.run_phase(t)
            self.assertEqual(len(t.collect()[0]), 3)
            t.expect("done", 2)


class Table(unittest.TestCase):
    def test_models(self) -> None:
        with open(os.path.join(TENANTS, "models.json"), encoding="utf-8") as file:
            table = json.load(file)
        self.assertEqual(table["version"], 1)
        names = []
        for model in table["models"]:
            names += [model["name"], *model["aliases"]] + ([model["hub"]] if model["hub"] else [])
            self.assertIn(model["role"], ("encoder", "decoder"))
            self.assertEqual(model["kind"], {"encoder": "base", "decoder": "causal-lm"}[model["role"]])
            self.assertGreater(model["parameters"], 0)
            self.assertIn("model_type", model["config"])
            if not model["name"].startswith("tiny"):
                self.assertGreaterEqual(model["config"]["vocab_size"], table["input_ids"])
        self.assertEqual(len(names), len({name.lower() for name in names}), "a name stands for one model")


if __name__ == "__main__":
    unittest.main()
