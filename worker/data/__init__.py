"""Claimed feedback becomes training examples: redacted, weighted, split, listed. Pure."""
