"""What the tests of the tiers host, vm, engines and perf share. Runs in pytest; imports nothing of katapy."""
