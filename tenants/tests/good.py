"""A scripted tenant whose iterations have known lengths: `good.py --ms 2 [--spin] [--ready-ms 100] [--tokens 8]`."""

from __future__ import annotations

import argparse
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import cotenant  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ms", type=float, default=2.0, help="length of an iteration")
    parser.add_argument("--spin", action="store_true", help="spin on the clock instead of sleeping")
    parser.add_argument("--ready-ms", type=float, default=0.0, help="how long setting up takes")
    parser.add_argument("--tokens", type=int, default=None, help="tokens of an iteration")
    arguments = parser.parse_args()
    length = round(arguments.ms * 1e6)
    cotenant.note("pretending to load")
    time.sleep(arguments.ready_ms / 1e3)
    cotenant.fact("length_ns", length)
    for _ in cotenant.iterations(tokens=arguments.tokens, alone=5):
        if arguments.spin:
            end = time.monotonic_ns() + length
            while time.monotonic_ns() < end:
                pass
        else:
            time.sleep(length / 1e9)


if __name__ == "__main__":
    main()
