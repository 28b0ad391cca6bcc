"""The scheduler: tick (materialise), reaper (expired leases), rotation (slots), retention (partitions), main.

Any number may run; the ledger's primary key and row locks make them safe, there is no leader.
"""
