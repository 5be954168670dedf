"""The OCI runtime-spec: its documents, its rules, its words. Any process of host or guest."""

SPEC_VERSION = "1.2.1"
"""The newest that katapy is written for."""
