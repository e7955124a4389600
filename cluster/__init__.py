"""How Raydesk is started somewhere; imported by nobody."""
