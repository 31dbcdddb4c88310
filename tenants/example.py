"""The three lines that let cotenant measure any Python loop. Runs alone as well: `python3 example.py`.

In an experiment:

    [tenants.mine]
    command = ["python3", "tenants/example.py"]
    protocol = "lines"
"""

import cotenant  # 1: before anything slow


def work() -> int:
    """Stands for your own step; a model's forward pass, say."""
    return sum(i * i for i in range(20_000))


def main() -> None:
    total = 0
    for i in cotenant.iterations(alone=100):  # 2: instead of your own loop …
        total += work()  # 3: … around your own step
        if not cotenant.active():
            print(f"iteration {i}: {total}")


if __name__ == "__main__":
    main()
