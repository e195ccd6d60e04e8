"""Token sequences of the user as a task."""
