"""What scripts/publish.py does, by kind of result."""
