"""Wafer maps as a task."""
