"""What people and programs open."""
