"""duework as an MCP server: an agent lists, writes, runs and watches tasks with its own token, over HTTP or stdio."""
