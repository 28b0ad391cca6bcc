-- The bucket of a tool that never had one, full. Promises: an existing one is left alone. Locks: its key.
-- Fence: the primary key.
INSERT INTO duework.rate_bucket (tool) VALUES (%(tool)s) ON CONFLICT (tool) DO NOTHING
