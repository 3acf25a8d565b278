"""Floating-point operations of a language model by its size (arXiv 2001.08361, section 2.1)."""

FORWARD, WITH_BACKWARD = 2.0, 6.0  # a parameter and token
