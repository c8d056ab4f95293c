"""Reviews of cells by people, which serve as labels."""
