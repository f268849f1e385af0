#!/usr/bin/env python3
"""Writes dequantisation.json: blocks of every tensor type that the engine computes with, and the float32 values that
the `gguf` package gives them.

    pip install gguf numpy
    python3 tests/golden/make_dequantisation.py

For each type a list of cases: what the blocks are for, their bytes, and the bits of their values, both in hexadecimal.
"""
import json
import pathlib
import struct

import gguf
import numpy

HALVES = {"one": 0x3C00, "minus one": 0xBC00, "least": 0x0001, "largest subnormal": 0x03FF, "least normal": 0x0400,
          "largest": 0x7BFF, "minus least": 0x8001, "infinite": 0x7C00, "zero": 0, "minus zero": 0x8000}
random = numpy.random.default_rng(20260214)


def half(bits):
    return struct.pack("<H", bits)


def noise(count):
    return random.integers(0, 256, count, dtype=numpy.uint8).tobytes()


def ordinary_half():
    return half(int(random.integers(0x0C00, 0x3800)) | int(random.integers(0, 2)) << 15)


def plain(pack, specials):
    """32 values to a case, as types without blocks may have rows of any multiple of 32."""
    yield "random", b"".join(pack(int(random.integers(0, 1 << 32))) for _ in range(32))
    yield "special", b"".join(pack(bits) for bits in specials) + pack(0) * (32 - len(specials))


def f32():
    # No random exponents: signalling NaNs do not survive every copy.
    yield "random", random.standard_normal(32).astype("<f4").tobytes()
    yield "special", struct.pack("<32I", 0, 1 << 31, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000, 0xFF800000,
                                 0x7FC00000, *[0] * 23)


def f16():
    yield from plain(lambda bits: half(bits & 0xFFFF), HALVES.values())


def bf16():
    yield from plain(lambda bits: half(bits & 0xFFFF), [0x3F80, 1, 0x007F, 0x0080, 0x7F7F, 0x7F80, 0xFF80, 0x8000, 0x7FC0])


def q8_0():
    yield "golden: d 0.5, quant 3 is -128", half(0x3800) + bytes(3) + b"\x80" + bytes(28)
    yield "random", b"".join(ordinary_half() + noise(32) for _ in range(4))
    for name, d in HALVES.items():
        yield f"d is {name}", half(d) + noise(32)
    yield "every quant", b"".join(half(0x2E66) + bytes(range(first, first + 32)) for first in range(0, 256, 32))


def q4_0():
    yield "golden: d 1, first byte 0x90", half(0x3C00) + b"\x90" + bytes(15)
    yield "random", b"".join(ordinary_half() + noise(16) for _ in range(4))
    for name, d in HALVES.items():
        yield f"d is {name}", half(d) + noise(16)


def packed(scales, minima):
    """Eight scales and minima of 6 bits in 12 bytes."""
    out = bytearray(12)
    for j in range(4):
        out[j] = scales[j] | (scales[j + 4] >> 4) << 6
        out[j + 4] = minima[j] | (minima[j + 4] >> 4) << 6
        out[j + 8] = (scales[j + 4] & 15) | (minima[j + 4] & 15) << 4
    return bytes(out)


def q4_q5_k(fifth_bits):
    def block(d=0x2000, dmin=0x2800, scales=None, bits=None, nibbles=None):
        head = half(d) + half(dmin) + (scales or noise(12))
        return head + ((bits or noise(32)) if fifth_bits else b"") + (nibbles or noise(128))

    golden = bytearray(12)
    golden[0], golden[4], golden[8] = 0xC5, 0x8A, 0x21
    yield "golden: scales 5 and 49, minima 10 and 34", block(0x3C00, 0x3C00, bytes(golden))
    yield "random", b"".join(block(random.integers(0x0C00, 0x3000), random.integers(0x1400, 0x3800)) for _ in range(4))
    different = packed([1, 18, 35, 52, 6, 23, 40, 57], [63, 46, 29, 12, 58, 41, 24, 7])
    yield "a scale and a minimum of its own for each group", block(0x3C00, 0x3C00, different)
    yield "all scales 63", block(0x2E66, 0x2E66, b"\xff" * 12)
    yield "no scales", block(scales=bytes(12))
    for name, d in HALVES.items():
        yield f"d is {name}", block(d=d)
        yield f"dmin is {name}", block(dmin=d)
    if fifth_bits:
        for bit in range(8):
            yield f"fifth bits of group {bit} alone", block(bits=bytes([1 << bit]) * 32)
        yield "fifth bits of group 0 at even positions, of 7 at odd ones", block(bits=b"\x01\x80" * 16)


def q6_k():
    def block(d=0x2000, scales=None, low=None, upper=None):
        return (low or noise(128)) + (upper or noise(64)) + (scales or noise(16)) + half(d)

    low, upper = bytearray(128), bytearray(64)
    low[0], low[32], upper[0] = 0x4F, 0x21, 0xE4
    yield "golden: -17, -15, 4 and 18", block(0x3C00, b"\x01" * 16, bytes(low), bytes(upper))
    yield "random", b"".join(block(random.integers(0x0C00, 0x3800)) for _ in range(4))
    yield "least quants", block(0x3C00, low=bytes(128), upper=bytes(64))
    yield "largest quants", block(0x3C00, low=b"\xff" * 128, upper=b"\xff" * 64)
    yield "quants around zero", block(0x3C00, low=b"\x0f\xf0" * 64, upper=b"\x55\xaa" * 32)
    for bits in range(0, 8, 2):
        yield f"upper bits {bits} and {bits + 1} alone", block(upper=bytes([3 << bits]) * 64)
    yield "scales at their ends", block(0x2E66, b"\x80\x7f\xff\x01" * 4)
    yield "a scale of its own for each 16 values", block(0x3C00, bytes(range(3, 19)))
    for name, d in HALVES.items():
        yield f"d is {name}", block(d=d)


def case(kind, what, blocks):
    rows = numpy.frombuffer(blocks, dtype=numpy.uint8)
    with numpy.errstate(all="ignore"):
        values = gguf.quants.dequantize(rows.reshape(1, -1), kind)
    return {"what": what, "blocks": blocks.hex(), "values": numpy.ascontiguousarray(values, dtype="<f4").tobytes().hex()}


def main():
    makers = {"F32": f32(), "F16": f16(), "BF16": bf16(), "Q8_0": q8_0(), "Q4_0": q4_0(),
              "Q4_K": q4_q5_k(False), "Q5_K": q4_q5_k(True), "Q6_K": q6_k()}
    lines = []
    for name, cases in makers.items():
        kind = gguf.GGMLQuantizationType[name]
        items = ",\n  ".join(json.dumps(case(kind, what, blocks)) for what, blocks in cases)
        lines.append(f'"{name}": [\n  {items}]')
    path = pathlib.Path(__file__).with_name("dequantisation.json")
    path.write_text("{" + ",\n".join(lines) + "}\n")


main()
