"""How company knowledge becomes searchable."""
