"""Mazes: find the way from S to G."""
