"""Sets other accountants beside ours, on the rows that accountant-benchmark printed.

    python3 Benchmarks/compare_accountants.py ROWS.json [--quick]

Every row is timed with dp-accounting's PLD at its default interval (1e-4) and at 1e-5, with Opacus' PRVAccountant at its
default error (0.01) and with prv_accountant at an error of 0.1, which it calls typical. Then the noise multiplier for the
row's target ε is searched with dp-accounting's PLD at its default interval. Times are the median of three calls, of one where a
call takes more than two seconds; imports are not counted. `--quick` leaves out what takes long: 1e-5, Opacus and calibration.

Prints JSON lines, then two tables in Markdown. An ε in the table is what the library would tell its user: Opacus' upper
bound, prv_accountant's upper bound.
"""

import argparse
import importlib.metadata
import json
import pathlib
import statistics
import time
import warnings

import dp_accounting
from dp_accounting import pld
from opacus.accountants import PRVAccountant as OpacusAccountant
from prv_accountant import PoissonSubsampledGaussianMechanism
from prv_accountant import PRVAccountant


def event(row, noise):
    step = dp_accounting.PoissonSampledDpEvent(row["sampling_rate"], dp_accounting.GaussianDpEvent(noise))
    return dp_accounting.SelfComposedDpEvent(step, row["steps"])


def pld_epsilon(row, interval):
    accountant = pld.PLDAccountant(value_discretization_interval=interval)
    return accountant.compose(event(row, row["noise_multiplier"])).get_epsilon(row["delta"])


def opacus_epsilon(row):
    accountant = OpacusAccountant()
    accountant.history = [(row["noise_multiplier"], row["sampling_rate"], row["steps"])]
    return float(accountant.get_epsilon(row["delta"]))


def prv_epsilon(row):
    mechanism = PoissonSubsampledGaussianMechanism(
        noise_multiplier=row["noise_multiplier"], sampling_probability=row["sampling_rate"]
    )
    accountant = PRVAccountant(
        mechanism, eps_error=0.1, delta_error=row["delta"] / 1000, max_self_compositions=row["steps"]
    )
    return float(accountant.compute_epsilon(row["delta"], row["steps"])[2])


def pld_calibration(row):
    return dp_accounting.calibrate_dp_mechanism(
        pld.PLDAccountant, lambda noise: event(row, noise), row["target_epsilon"], row["delta"],
        # Without a bracket it begins at noise 0, where the loss is infinite.
        bracket_interval=dp_accounting.LowerEndpointAndGuess(0.4, 1.0),
    )


def timed(function, *arguments):
    """Result and milliseconds; the text of the error and None where it fails."""
    times = []
    while len(times) < 3:
        began = time.perf_counter()
        try:
            value = function(*arguments)
        except Exception as error:  # the failure of a library is a result too
            return f"{type(error).__name__}: {error}"[:120], None
        times.append((time.perf_counter() - began) * 1000)
        if times[-1] > 2000:
            break
    return value, statistics.median(times)


def cell(ours_ms, value, milliseconds):
    if milliseconds is None:
        return "fails"
    return f"{value:.6f}, {milliseconds:,.0f} ms, {milliseconds / ours_ms:,.0f}x"


def main():
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    others = {"PLD 1e-4": lambda row: pld_epsilon(row, 1e-4), "prv_accountant 0.1": prv_epsilon}
    if not options.quick:
        others |= {"PLD 1e-5": lambda row: pld_epsilon(row, 1e-5), "Opacus PRV 0.01": opacus_epsilon}
    names = sorted(others)
    versions = {name: importlib.metadata.version(name) for name in ("dp-accounting", "opacus", "prv-accountant", "numpy")}
    print(json.dumps({"versions": versions}))
    epsilons, calibrations = [], []
    for row in json.loads(options.rows.read_text()):
        setting = f"{row['sampling_rate']:.4g}, {row['noise_multiplier']}, {row['steps']:,}, {row['delta']:.0e}"
        ours = row["epsilon_ms"]
        found = {name: timed(others[name], row) for name in names}
        cells = [setting, f"{row['epsilon']:.6f}, {ours:.2f} ms"] + [cell(ours, *found[name]) for name in names]
        epsilons.append(" | ".join(cells))
        if not options.quick:
            found["PLD 1e-4 calibration"] = timed(pld_calibration, row)
            calibrations.append(" | ".join([
                f"{setting}, {row['target_epsilon']:g}",
                f"{row['calibrated_noise_multiplier']:.6f}, {row['calibration_ms']:.1f} ms",
                cell(row["calibration_ms"], *found["PLD 1e-4 calibration"]),
            ]))
        print(json.dumps(row | {"others": found}), flush=True)

    def table(head, lines):
        print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
        for line in lines:
            print(f"| {line} |")

    table(["q, sigma, steps, delta", "fedlora"] + names, epsilons)
    if calibrations:
        table(["q, sigma (not used), steps, delta, target epsilon", "fedlora: sigma", "PLD 1e-4: sigma"], calibrations)


if __name__ == "__main__":
    main()
