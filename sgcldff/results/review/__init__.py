"""Cells that a person looks at: which, on what page, what was answered, and what becomes of the answers."""
