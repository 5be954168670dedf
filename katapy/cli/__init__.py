"""The command line, one file a verb. Runs in the CLI: milliseconds for most verbs, so imports are few and late."""
