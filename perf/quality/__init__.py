"""How good the parts are, measured against a held-out truth. Imported by nobody."""
