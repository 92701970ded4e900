"""What a float32 is made of."""

__all__ = ["BIAS", "SIGNIFICAND_BITS"]


SIGNIFICAND_BITS = 24
"""The leading one included, which is not stored."""

BIAS = 127
"""Of the exponent."""
