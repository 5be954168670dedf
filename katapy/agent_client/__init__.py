"""The host's end of the channel to the agent. Supervisor only.

grpc's core writes to stderr what a peer gives as a reason for going (GOAWAY): hundreds of megabytes a second,
unescaped, in the supervisor's log. It reads this variable when it is imported: here is where the supervisor comes by
before that. And it has ways of its own with forked children, which a supervisor's never use grpc.
"""

import os

os.environ["GRPC_VERBOSITY"] = "NONE"
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
