"""What a catalog entry limits, as one process keeps it: rates, places, circuit breakers."""
