"""Rooms of the answering system and how they are put on Ray Serve."""
