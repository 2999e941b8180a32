"""For tests: conformance checks, strategies, builders, a scripted runner, a pytest plugin. Public."""
