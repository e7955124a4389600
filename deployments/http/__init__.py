"""The Starlette side: what travels over HTTP and in which shape."""
