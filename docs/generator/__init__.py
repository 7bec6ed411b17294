"""What `docs/generate.py` writes into the marked regions: tables and sentences from files."""
