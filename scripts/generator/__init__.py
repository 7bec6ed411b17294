"""What `scripts/generate.py` writes into the marked regions: tables and sentences from files."""
