"""From classified cells to numbers."""
