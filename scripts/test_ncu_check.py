"""Tests of ncu_check.py: python3 -m unittest discover scripts."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import ncu_check as check

HERE = pathlib.Path(__file__).parent


def page(entry, counters):
    names = ["ID", "Kernel Name", *counters]
    units = ["", "", *("inst" for _ in counters)]
    row = ["0", entry, *(f"{v:,.3f}" for v in counters.values())]
    return "==PROF== Connected\n" + "\n".join(",".join(f'"{x}"' for x in r) for r in (names, units, row)) + "\n"


def perfect(case):
    """Counters that are exactly as stated."""
    totals = check.stated(case)
    counters = {k: v for k, v in totals.items() if "__" in k}
    pipes, turns = case["resolved"]["demand"]["pipes"], case["iterations"] * check.warps(case)
    # Packed fp16 half on the FMA pipe, half on the tensor pipe, as on Hopper.
    half = pipes["fp16"] * turns / 2
    counters["sm__inst_executed_pipe_fma.sum"] = pipes["fma"] * turns + half
    wgmma = case["resolved"]["kernel"] == "tensor-wgmma"
    counters[check.GMMA] = totals["tensor"] / 32 if wgmma else 0.0
    counters[check.HMMA] = (counters[check.GMMA] if wgmma else totals["tensor"]) + half
    counters |= {check.TIME: 1e6, check.CYCLES: 1e9, "sm__inst_issued.avg.per_cycle_active": 3.95}
    return counters


class NcuCheck(unittest.TestCase):
    def setUp(self):
        self.cases = json.loads((HERE / "ncu-cases.json").read_text())

    def test_counters_are_read_with_separators(self):
        got = check.parse_raw_page(page("copy", {"a__b.sum": 1234567.5}), "copy")
        self.assertEqual(got["a__b.sum"], 1234567.5)

    def test_another_kernels_counters_are_refused(self):
        with self.assertRaisesRegex(ValueError, "no launch of copy"):
            check.parse_raw_page(page("memset", {"a__b.sum": 1.0}), "copy")
        with self.assertRaisesRegex(ValueError, "no table"):
            check.parse_raw_page("==ERROR== permission", "copy")

    def test_counters_as_stated_pass_and_others_do_not(self):
        for case in self.cases:
            counters = perfect(case)
            rows = check.compare(case, counters, 0.03)
            self.assertTrue(all(r[4] == "as stated" for r in rows), case["label"])
        case = self.cases[0]
        counters = perfect(case) | {check.EXECUTED: 1.1 * check.stated(case)[check.EXECUTED]}
        verdicts = {r[0]: r[4] for r in check.compare(case, counters, 0.03)}
        self.assertEqual(verdicts[check.EXECUTED], "DIFFERS")

    def test_work_that_is_not_stated_is_noticed(self):
        case = next(c for c in self.cases if c["label"].startswith("int32"))
        counters = perfect(case) | {"sm__inst_executed_pipe_xu.sum": 0.1 * check.stated(case)[check.EXECUTED]}
        verdicts = {r[0]: r[4] for r in check.compare(case, counters, 0.03)}
        self.assertEqual(verdicts["sm__inst_executed_pipe_xu.sum"], "DIFFERS")

    def test_moves_on_the_tensor_pipe_are_no_packed_fp16(self):
        case = next(c for c in self.cases if c["label"].startswith("write"))
        counters = perfect(case) | {check.HMMA: 0.1 * check.stated(case)[check.EXECUTED]}
        self.assertTrue(all(r[4] == "as stated" for r in check.compare(case, counters, 0.03)))

    def test_hit_rates_are_of_sms_loads(self):
        sectors = {check.LOADED: 32e6, check.STORED: 0.0, check.L1_HIT_PCT: 50.0}
        l1, l2 = check.hit_rates(sectors | {check.L2_HITS: 4e5, check.L2_MISSES: 1e5})
        self.assertEqual((l1, l2), (50.0, 80.0))
        # From DRAM's bytes where L2's counters lack: half a million sectors missed L1, a quarter of them L2.
        l1, l2 = check.hit_rates(sectors | {check.DRAM_READ: 4e6})
        self.assertAlmostEqual(l2, 75.0)
        self.assertEqual(check.hit_rates({check.LOADED: 0.0, check.STORED: 128.0, check.L1_HIT_PCT: 1.1}), (None, None))

    def test_shares_are_of_the_peak(self):
        case = next(c for c in self.cases if c["label"].startswith("read 264x512 bytes=4294967296"))
        figures = check.derive(case, {check.TIME: 2 * 4294967296 / 3.35e12 * 1e9}, 3.35e12)
        self.assertAlmostEqual(figures["dram_share"], 1.0, places=6)

    def test_stored_output_gives_the_tables(self):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder)
            (out / "raw").mkdir()
            for case in self.cases:
                (out / "raw" / check.file_name(case)).write_text(page(case["resolved"]["entry"], perfect(case)))
            command = [sys.executable, str(HERE / "ncu_check.py"), "--cases", str(HERE / "ncu-cases.json")]
            done = subprocess.run([*command, "--out", folder, "--reuse"], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertEqual(
                sorted(p.name for p in out.iterdir()), ["counters.csv", "demand.csv", "kernels.md", "raw"]
            )
            text = (out / "kernels.md").read_text()
            self.assertEqual(len(text.splitlines()), 2 + len(self.cases))
            self.assertIn("ipc 3.950 of 3.9: reached", text)


if __name__ == "__main__":
    unittest.main()
