"""katapy: OCI containers, each pod in its own virtual machine. Imports nothing: every hot verb pays for it."""

__version__ = "0.1.0"
