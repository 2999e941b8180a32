"""From a list of tasks to merged work: scopes, plan, run, merge."""
