"""Weights of the official PyTorch TRM, and tensor files read without running code."""
