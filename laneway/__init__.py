"""laneway: actor-based event dispatch for AI-agent platforms."""
