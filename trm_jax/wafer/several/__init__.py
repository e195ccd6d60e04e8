"""Wafers with several patterns, as tasks for the engine."""
