"""Races: the engine beside its peers, fleets beside runs alone, writing, time to quality."""
