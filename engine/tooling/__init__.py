"""Where tools come from: Python callables and MCP servers, all as `ToolInvoker`."""
