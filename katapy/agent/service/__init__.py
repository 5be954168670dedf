"""The calls of protocol/agent.proto, one file per group, and the gate before them. Runs in the agent."""
