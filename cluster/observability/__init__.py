"""What operators look at, and what wakes them: made by `python -m cluster.observability`."""
