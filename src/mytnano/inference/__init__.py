"""What one does with a finished run: continue text, score text, choose between sentences."""
