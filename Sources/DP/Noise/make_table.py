#!/usr/bin/env python3
"""Writes NormalCellTable.swift: the 128-bit cumulative weights of the cells that RoundedGaussian proposes.

Cell i is [i/16, (i+1)/16) of |z| and is proposed with a weight proportional to the normal density at its left edge.
The table stops at the first edge beyond which a standard normal lies with probability below 2^-128.
Needs mpmath:  python3 make_table.py > NormalCellTable.swift
"""
import mpmath as mp

mp.mp.prec = 400
WIDTH = mp.mpf(1) / 16

cells = 1
while mp.erfc(cells * WIDTH / mp.sqrt(2)) >= mp.mpf(2) ** -128:
    cells += 1
weights = [mp.exp(-((i * WIDTH) ** 2) / 2) for i in range(cells)]
total = mp.fsum(weights)
running = mp.mpf(0)
bounds = []
for weight in weights[:-1]:
    running += weight
    bounds.append(int(mp.nint(running / total * mp.mpf(2) ** 128)))
assert all(a < b for a, b in zip(bounds, bounds[1:])) and bounds[-1] < 2**128

accepted = mp.sqrt(mp.pi / 2) * mp.erf(cells * WIDTH / mp.sqrt(2)) / (WIDTH * total)
print("// Made by make_table.py; not edited by hand.\n")
print("/// Cells of width 1/16 of the standard half-normal, proposed in proportion to the density at their left edges.")
print("package enum NormalCellTable {")
print(f"  /// How many cells there are; |z| above {float(cells * WIDTH)} has probability"
      f" {mp.nstr(mp.erfc(cells * WIDTH / mp.sqrt(2)), 3)}, below 2⁻¹²⁸.")
print(f"  /// Of the proposals a share of {mp.nstr(accepted, 6)} is accepted.")
print(f"  package static let cells = {cells}")
print("  /// 2¹²⁸ · P(cell ≤ i) to the nearest integer for every cell but the last, high word then low word.")
print("  static let bounds: [UInt64] = [")
for i in range(0, len(bounds), 2):
    print("    " + " ".join(f"0x{b >> 64:016X}, 0x{b & (2**64 - 1):016X}," for b in bounds[i:i + 2]))
print("  ]")
print("}")
