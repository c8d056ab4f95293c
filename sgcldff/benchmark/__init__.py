"""Models under one protocol: what is trained and scored, how scores are compared, and the table and plots of them."""
