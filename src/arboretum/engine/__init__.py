"""The parallel hypothesis tester: plan, pool, trials, verdicts, search, store."""
