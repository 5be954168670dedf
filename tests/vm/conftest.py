"""The tier vm: the runtime's command line against real machines. A boot costs ten seconds: share containers."""

from framework.fixtures import *  # noqa: F403
