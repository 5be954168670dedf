"""The host's end of the channel to the agent. Supervisor only.

grpc's core writes to stderr what a peer gives as a reason for going (GOAWAY): hundreds of megabytes a second,
unescaped, in the supervisor's log. It reads this variable when it is imported: here is where the supervisor comes by
before that.
"""

import os

os.environ["GRPC_VERBOSITY"] = "NONE"
