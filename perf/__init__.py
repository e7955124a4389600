"""Measurements: speed, quality, comparisons with named peers."""
