"""Tasks that read slides."""
