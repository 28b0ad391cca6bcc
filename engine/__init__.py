"""The engine: everything that schedules, pipelines, leases and the gate mean, with no process of its own.

Rooms, each importing only those before it: errors, settings, metrics, telemetry; db, service; the pure
part (schedule, retry, expressions, template, contract, pipeline, reflex); store; tools; executor.
"""
