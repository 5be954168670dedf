"""A pod: planned in the CLI (pure), then kept alive in the supervisor. The only orchestration."""
