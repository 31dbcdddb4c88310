"""A tenant that writes outside of its memory on the GPU after some iterations: `fault.py --after 150`.

Under MPS such a fault ends the server's work for every client; tests hold the run to that. It needs torch with a GPU.
"""

from __future__ import annotations

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import cotenant  # noqa: E402

SOURCE = """
extern "C" __global__ void outside(float* p) { p[1ull << 40] = 1.0f; }
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--after", type=int, default=150, help="iterations before the fault, warm-up included")
    arguments = parser.parse_args()
    import torch

    outside = torch.cuda._compile_kernel(SOURCE, "outside")
    x = torch.ones(1024, 1024, device="cuda")
    y = torch.empty_like(x)
    for i, _ in enumerate(cotenant.iterations()):
        torch.mm(x, x, out=y)
        if i == arguments.after:
            outside(grid=(1, 1, 1), block=(1, 1, 1), args=[x])
            torch.cuda.synchronize()


if __name__ == "__main__":
    main()
