"""Reviews of cells by people, kept as labels."""
