"""The connections between hosts: gRPC streams that carry `actors.hosts.peers` messages."""
