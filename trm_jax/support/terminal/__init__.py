"""What stands on a terminal: arguments, progress, one line for an error."""
