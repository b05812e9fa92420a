"""The connections between hosts: gRPC streams that carry `actors.peers` messages."""
