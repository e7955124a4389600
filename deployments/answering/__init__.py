"""The story of one turn in plain Python: no Ray, no Starlette, no torch, no Redis."""
