"""The command line: `laneway serve | chat | tail | tools | dlq | cluster | model | doctor`."""

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process."""
    from laneway.engine.cli.root import app

    app()
