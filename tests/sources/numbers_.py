"""Numbers: small pure functions, as people write them."""

import math


def gcd_steps(a: int, b: int) -> int:
    """Count the steps of Euclid's algorithm for two numbers."""
    steps = 0
    while b:
        a, b = b, a % b
        steps += 1
    return steps


def is_prime(n: int) -> bool:
    """Tell whether a number is prime."""
    if n < 2:
        return False
    for candidate in range(2, math.isqrt(n) + 1):
        if n % candidate == 0:
            return False
    return True


def collatz_length(n: int, limit: int = 50) -> int:
    """Count the steps until the Collatz sequence reaches one.

    >>> collatz_length(6)
    8
    """
    count = 0
    while n > 1 and count < limit:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        count += 1
    return count


def clamp(value: float, low: float = 0.0, high: float = 1.0) -> float:
    """Keep a value between two bounds."""
    return max(low, min(high, value))


def digits_sum(n: int) -> int:
    """Add up the decimal digits of a number."""
    return sum(int(digit) for digit in str(abs(n)))
