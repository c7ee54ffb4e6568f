"""Lets private-step and Opacus in its ways take a step each in turns, and prints one table of how they compare.

    python3 Benchmarks/private_steps_in_turns.py PRIVATE_STEP MODEL_FOLDER [--threads 1,2] [--trained fedsvd,fedsa]
        [--kernels stock,avx512,tuned] [--modes hooks,ghost] [--turns 6] [--batch 32] [--length 128 | --lengths FILE]
        [--targets query,value]

Every way is a process of its own, which waits while the others work, so its peak memory is its own and what else the
machine does falls on all alike. A ratio is the median over turns of times of the same turn. Prints the JSON lines of all
(see PrivateStepBenchmark.swift and opacus_private_step.py) and then the table, in Markdown.
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys


class Stepper:
    """A program that makes a step for each line that it is sent."""

    def __init__(self, name, command):
        self.name, self.turns, self.report = name, [], None
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def read(self):
        for line in self.process.stdout:
            if line.startswith(("{", "ready")):
                return line
        raise SystemExit(f"{self.name} ended: {self.process.stderr.read().strip()[-2000:]}")

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.turns.append(json.loads(self.read()))

    def finish(self):
        self.process.stdin.close()
        line = self.read()
        self.report = json.loads(line)
        print(line, end="", flush=True)
        self.process.wait()

    def seconds(self, key="private_s"):
        return [turn[key] for turn in self.turns]

    def rate(self, key="private_s"):
        """Examples a second by the median step."""
        return self.report["batch"] / statistics.median(self.seconds(key))


def median_ratio(above, below):
    return statistics.median(a / b for a, b in zip(above, below))


def run_setting(options, threads, trained):
    common = ["--threads", threads, "--trained", trained, "--on-request"]
    for name in ("batch", "length", "targets"):
        common += [f"--{name}", getattr(options, name)]
    if options.lengths:
        common += ["--lengths", options.lengths]
    folder = pathlib.Path(__file__).parent
    with contextlib.ExitStack() as running:
        def start(name, command):
            stepper = Stepper(name, command)
            running.callback(stepper.process.kill)
            if stepper.read().strip() != "ready":
                raise SystemExit(f"{name} did not say that it is ready")
            return stepper

        ours = start("private-step", [options.private_step, options.model, *common])
        theirs = [
            start(f"{kernels} {mode}", [
                sys.executable, folder / "opacus_private_step.py", options.model, *common,
                "--kernels", kernels, "--mode", mode,
            ])
            for kernels in options.kernels.split(",") for mode in options.modes.split(",")
        ]
        print(f"{threads} thread(s), {trained}: all are ready", file=sys.stderr, flush=True)
        for _ in range(options.turns):
            for stepper in [ours, *theirs]:
                stepper.step()
        print(f"{threads} thread(s), {trained}: measured", file=sys.stderr, flush=True)
        for stepper in [ours, *theirs]:
            stepper.finish()
    return ours, theirs


def row(threads, trained, ours, theirs):
    secret, plain = ours.seconds(), ours.seconds("plain_s")
    cells = [
        threads, trained, f"{ours.rate('plain_s'):.2f}", f"{ours.rate():.2f}",
        f"{median_ratio(secret, plain):.3f} ({ours.report['ratio_cpu']:.3f})", f"{ours.report['peak_rss_mb']:,.0f}",
    ]
    for other in theirs:
        ratio = median_ratio(other.seconds(), secret)
        cells.append(f"{other.rate():.2f} ({ratio:.2f}x, {other.report['peak_rss_mb']:,.0f} MB)")
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("private_step", type=pathlib.Path, help="the built private-step")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--trained", default="fedsvd,fedsa")
    parser.add_argument("--kernels", default="stock,avx512,tuned")
    parser.add_argument("--modes", default="hooks,ghost")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--lengths", default="")
    parser.add_argument("--targets", default="query,value")
    options = parser.parse_args()
    rows = []
    for threads in options.threads.split(","):
        for trained in options.trained.split(","):
            ours, theirs = run_setting(options, threads, trained)
            rows.append(row(threads, trained, ours, theirs))
    head = ["threads", "trained", "plain", "private", "private / plain (processor time)", "MB"]
    head += [stepper.name for stepper in theirs]
    print("\nexamples/s; in brackets how much faster our private step is, and the other's peak memory")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for cells in rows:
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
