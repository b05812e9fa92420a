"""The edges: where clients' bytes come in and frames go out, one adapter per wire."""
