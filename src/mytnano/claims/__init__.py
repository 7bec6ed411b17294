"""The log's claims: what was said, what decides it, what the evidence says."""
