"""Speed, measured side by side: ``python -m tests.benchmarks`` runs every comparison and prints ratios.

Each module ``bench_<area>.py`` has a function ``run(scale: float) -> list[Row]`` (see `tests.benchmarks.measure`).
`scale` 1 is the full form; 0.1 is short, for a check that the benchmark works. No test asserts a time.
"""
