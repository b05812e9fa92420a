"""Generated from `laneway/v1/edge.proto`; import it as `laneway.engine.proto.laneway.v1`."""
