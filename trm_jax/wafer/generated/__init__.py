"""Wafers that nobody tested: those of the nine patterns, mixes of two, and drawings of none."""
