#!/usr/bin/env python3
"""Prints oracles of the secret noise: words of a seeded key stream, from HKDF by hmac and AES-CTR by the openssl program, and
decisions of the acceptance test next to the edge, from mpmath with 600 bits.

python3 make_noise_vectors.py stream
python3 make_noise_vectors.py acceptance > ../DPTests/Fixtures/acceptance.csv
"""
import hashlib
import hmac
import random
import struct
import subprocess
import sys

import mpmath as mp


def text(value):
    return struct.pack(">Q", len(value.encode())) + value.encode()


def expand(key, info):
    return hmac.new(key, info + b"\x01", hashlib.sha256).digest()


def stream():
    context = ["client-7", "round 3"]
    info = struct.pack(">Q", len(context)) + b"".join(map(text, context))
    root = expand(hmac.new(b"fedlora seeded randomness 1", struct.pack(">Q", 42), hashlib.sha256).digest(), info)
    key = expand(root, b"fedlora key stream 1" + text("noise") + struct.pack(">qq", 5, 2))
    words = []
    for chunk, count in [(0, 256), (1, 4096), (2, 4096)]:
        iv = struct.pack(">IQI", 0, chunk, 2)
        out = subprocess.run(["openssl", "enc", "-aes-256-ctr", "-K", key.hex(), "-iv", iv.hex()],
                             input=bytes(8 * count), capture_output=True, check=True).stdout
        words += struct.unpack(f"<{count}Q", out)
    for index in [0, 1, 255, 256, 257, 4351, 4352, 8000]:
        print(f"({index}, 0x{words[index]:016X}),")


def acceptance():
    """cell, f, u (128 digits each in hexadecimal), keep or drop: what holds for every f and u with these digits."""
    mp.mp.prec = 600
    generator = random.Random(1)
    one = 2**128
    for _ in range(60):
        cell = generator.choice([0, 0, 1, 2, 7, 15, 16, 40, 100, 209, generator.randrange(210)])
        f = generator.choice([0, 1, one - 1, one // 2, generator.randrange(one), generator.randrange(one)])

        def edge(digits):
            real = mp.mpf(digits) / one
            return mp.exp(-(real * (cell + real / 2) / 256)) * one

        # u + 1 at most the least edge keeps; u at least the greatest drops.
        keep = min(int(mp.floor(edge(f + 1))) - 1, one - 1)
        drop = int(mp.ceil(edge(f)))
        for distance in [140, 2**20, 2**66, 2**100, 2**120]:
            if keep - distance >= 0:
                print(f"{cell},{f:032X},{keep - distance:032X},keep")
            if drop + distance < one:
                print(f"{cell},{f:032X},{drop + distance:032X},drop")


{"stream": stream, "acceptance": acceptance}[sys.argv[1]]()
