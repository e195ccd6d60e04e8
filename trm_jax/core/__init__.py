"""The model and how it learns. Knows no task and no disk."""
