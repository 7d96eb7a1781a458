#!/usr/bin/env python3
"""Makes cuts.txt: where docs/format.md says that a stream is cut, computed without varu and without the crate fastcdc.

Run it in this folder; the file changes only where the format does.
"""

from pathlib import Path

MASKS = {7: 0x18035100, 8: 0x1800035300, 9: 0x19000353000, 10: 0x590003530000, 11: 0xD90003530000,
         12: 0xD90103530000, 13: 0xD90303530000, 14: 0xD90313530000, 15: 0xD90F03530000, 16: 0xD90303537000,
         17: 0xD90703537000}
WORD = (1 << 64) - 1


def numbers(seed):
    """SplitMix64."""
    while True:
        seed = seed + 0x9E3779B97F4A7C15 & WORD
        x = seed
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & WORD
        x = (x ^ x >> 27) * 0x94D049BB133111EB & WORD
        yield x ^ x >> 31


def content():
    """Noise, then zeros, then rows: an odd number of bytes."""
    words = numbers(2)
    noise = b"".join(next(words).to_bytes(8, "little") for _ in range(50_000))
    rows = "".join(f"({n},'Tamm {next(words) % 9973}','Pikk {n % 90}'),\n" for n in range(10_000))
    return noise + bytes(150_001) + rows.encode()


def cuts(gear, smallest, average, largest, data):
    b = round(__import__("math").log2(average))
    while data:
        n = min(len(data), largest)
        length = n
        if n > smallest:
            h = 0
            for i in range(smallest, n - n % 2):
                h = 2 * h + gear[data[i]] & WORD
                if h & MASKS[b + 1 if i < average else b - 1] == 0:
                    length = i
                    break
        yield length
        data = data[length:]


def main():
    words = numbers(1)
    gear = [next(words) for _ in range(256)]
    data = content()
    lines = ["# Made by cuts.py: sizes, then the lengths of all chunks.\n"]
    for sizes in [(4096, 16384, 65536), (64, 256, 1024), (1024, 6000, 65534)]:
        lines.append(" ".join(map(str, sizes)) + ": " + " ".join(map(str, cuts(gear, *sizes, data))) + "\n")
    Path("cuts.txt").write_text("".join(lines))


main()
