"""The QEMU driver. Runs in the supervisor, and in the CLI for templates."""
