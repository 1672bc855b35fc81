"""vLLM servers answer instead of the embedded engine: the same interface over HTTP."""
