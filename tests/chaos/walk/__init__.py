"""A random walk: random pipelines under random trouble, held against the same pipelines left in peace.

    python -m tests.chaos.walk [--seeds 20] [--seed N] [--database-url postgresql://…]

Each seed draws a few pipelines and runs them twice, on a database of its own each time: in peace, then while workers
die in the middle of a statement, leases are lost, workers drain, the database refuses connections, runs are canceled,
tasks are edited and catalogs reloaded. Runner, coordinator, settler, reaper, waiting tools and SQL are the real ones.
The pipelines depend on the seed alone. The trouble is drawn from it too, but falls where the event loop is: the same
seed brings similar trouble, not the same.
"""
