"""The contract between host and guest: agent.proto, the code generated from it, and names. Both sides."""
