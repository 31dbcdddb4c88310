"""What `peers/` makes of a server's records, and that a tree of processes is counted and ended."""
import os
import json
import pathlib
import tempfile
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "peers"))
import measure  # noqa: E402
import processes  # noqa: E402
import table  # noqa: E402
import tools  # noqa: E402


def record(arrival_ms, first_ms, last_ms):
    times = {"arrival_ns": arrival_ms, "first_token_ns": first_ms, "last_token_ns": last_ms, "end_ns": last_ms}
    return {k: int(v * 1e6) for k, v in times.items()} | {"output_tokens": 32}


class Judged(unittest.TestCase):
    def test_the_middle_counts_and_start_and_stragglers_do_not(self):
        # A request every 10 ms, each taking 20 ms: 100 a second, two at a time. Before them one comes a second early, behind them one
        # hangs for five.
        truth = [record(10 * i, 10 * i + 4, 10 * i + 20) for i in range(100)]
        truth += [record(-1000, -999, -990), record(1000, 1001, 6000)]
        seen = measure.judged(truth)
        self.assertAlmostEqual(seen["req_per_s"], 100.0, places=6)
        self.assertAlmostEqual(seen["in_flight"], 2.0, places=6)
        self.assertAlmostEqual(seen["req_per_s_whole"], 102 / 7.0, places=6)
        self.assertEqual(seen["first_ns"], -1_000_000_000)

    def test_waves_count_once(self):
        # Ten waves of eight requests that take 100 ms: 80 a second.
        truth = [record(100 * i, 100 * i + 40, 100 * (i + 1)) for i in range(10) for _ in range(8)]
        seen = measure.judged(truth)
        self.assertAlmostEqual(seen["req_per_s"], 80.0)
        self.assertAlmostEqual(seen["in_flight"], 8.0)

    def test_times_of_the_server(self):
        true = measure.true_times([record(0, 40, 350)] * 99 + [record(0, 140, 450)])
        self.assertAlmostEqual(true["ttft_mean"], 41.0)
        self.assertAlmostEqual(true["ttft_p99"], 41.0)
        self.assertAlmostEqual(true["tpot_mean"], 10.0)


class Processes(unittest.TestCase):
    def test_a_tree_is_counted_and_none_of_it_is_left(self):
        processes.adopt_orphans()
        server = processes.start(["sleep", "60"])
        # A grandchild works for a while as an orphan, and another one would stay for ever.
        busy = "import time\nwhile time.process_time() < 0.3: pass"
        script = f"({sys.executable} -c '{busy}' &) ; (sleep 600 &) ; sleep 0.1"
        grace, processes.GRACE_S = processes.GRACE_S, 1.0
        try:
            seen = processes.watch(["sh", "-c", script], server.pid, 30)
            self.assertIsNone(server.poll())
        finally:
            processes.GRACE_S = grace
            server.kill()
            server.wait()
        self.assertEqual(seen.code, 0)
        self.assertGreaterEqual(seen.cpu_s, 0.3)
        self.assertLess(seen.cpu_s, 3.0)
        self.assertGreaterEqual(seen.most_processes, 2)
        self.assertEqual(processes.descendants(os.getpid(), set()), set())

    def test_a_command_that_hangs_is_ended(self):
        processes.adopt_orphans()
        server = processes.start(["sleep", "60"])
        began = time.monotonic()
        try:
            seen = processes.watch(["sleep", "600"], server.pid, 0.3)
        finally:
            server.kill()
            server.wait()
        self.assertTrue(seen.timed_out)
        self.assertLess(time.monotonic() - began, 20)

    def test_processor_time_between_samples(self):
        seen = processes.Watched(0, cpu_s=3.0, samples=[(10, 1.0), (20, 2.0)])
        self.assertEqual([seen.cpu_until(t) for t in (5, 10, 15, 20, 25)], [0.0, 0.0, 1.5, 2.0, 3.0])


class Numbers(unittest.TestCase):
    def test_three_digits_and_no_power_of_ten(self):
        numbers = [20_734.6, 0.05123, 8.3, 0, -0.21, 999.6, 1234.5, 9.996]
        self.assertEqual([table.number(x) for x in numbers], ["20,700", "0.0512", "8.30", "0", "−0.210", "1,000", "1,230", "10.0"])

    def test_one_value_stands_alone_and_several_have_a_range(self):
        self.assertEqual(table.cell([{"x": "2"}, {"x": ""}], "x"), "2.00")
        self.assertEqual(table.cell([{"x": "3"}, {"x": "1"}, {"x": "2"}], "x"), "2.00 (1.00 to 3.00)")
        self.assertEqual(table.cell([{"x": ""}], "x"), "")


class Commands(unittest.TestCase):
    def test_every_tool_is_asked_for_the_same(self):
        here = pathlib.Path("/nowhere")
        for tool in tools.TOOLS:
            if tool.name in ("inference-perf", "inference-benchmarker"):
                continue  # these write files
            ask = tools.Ask("http://127.0.0.1:1", 256, 4321, 17, here, tools.Places(here, here, here))
            command = " ".join(str(c) for c in tool.command(ask))
            for wanted in ("http://127.0.0.1:1", "256", "4321", "32", "simulated"):
                self.assertIn(wanted, command, tool.name)

    def test_what_takes_a_time_finds_its_files_where_it_looks(self):
        tool = next(t for t in tools.TOOLS if t.timed)
        with tempfile.TemporaryDirectory() as folder:
            here = pathlib.Path(folder)
            (here / "models/tiny").mkdir(parents=True)
            (here / "models/tiny/tokenizer.json").write_text("{}")
            ask = tools.Ask("http://127.0.0.1:1", 256, 4321, 17, here, tools.Places(here, here, here))
            command = " ".join(str(c) for c in tool.command(ask))
            for wanted in ("http://127.0.0.1:1", "256", "17s", "num_tokens=32", "simulated"):
                self.assertIn(wanted, command)
            for repo, file in (("models--peers--tiny", "tokenizer.json"), ("datasets--peers--prompts", "prompts.json")):
                commit = (here / "hub/hub" / repo / "refs/main").read_text()
                self.assertTrue((here / "hub/hub" / repo / "snapshots" / commit / file).is_file())

    def test_a_report_with_failed_requests_is_none(self):
        tool = next(t for t in tools.TOOLS if t.timed)
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "results").mkdir()
            path = pathlib.Path(folder) / "results/peers_tiny.json"
            spread = {"avg": 2.0, "p99": 3.0}
            one = {"id": "throughput", "failed_requests": 0, "request_rate": 9.0, "time_to_first_token_ms": spread, "inter_token_latency_ms": spread}
            path.write_text(json.dumps({"results": [{"id": "warmup"}, one]}))
            said = tool.report(pathlib.Path(folder))
            self.assertEqual((said["req_per_s"], said["ttft_mean"], said["tpot_p99"]), (9.0, 2.0, 3.0))
            path.write_text(json.dumps({"results": [{**one, "failed_requests": 1}]}))
            with self.assertRaises(ValueError):
                tool.report(pathlib.Path(folder))


if __name__ == "__main__":
    unittest.main()
