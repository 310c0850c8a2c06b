"""Philox4x32-10 in plain Python (Salmon et al. 2011), beside which ours is tested."""


def block(seed: int, index: int, others: tuple[int, int, int] = (0, 0, 0)) -> list[int]:
    """Four words, in plain Python; ``others`` are the counter's words 1 to 3."""
    c, k = [index, *others], [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [
            (p1 >> 32) ^ c[1] ^ k[0],
            p1 & 0xFFFFFFFF,
            (p0 >> 32) ^ c[3] ^ k[1],
            p0 & 0xFFFFFFFF,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c
