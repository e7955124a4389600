"""Turns that belong to the application, not to the request that asked for them."""
