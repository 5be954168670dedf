"""What a virtual machine is to katapy, and its drivers. Runs in the supervisor, and in the CLI for templates."""
