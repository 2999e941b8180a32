"""The promises of docs/explanation/safety.md that no other test is about; the document names tests that exist."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from pathlib import Path

from arboretum.engine.local_executor import LocalExecutor
from arboretum.engine.model import CommandSpec, Outcome, TrialRequest
from arboretum.engine.orchestrator import WorktreeOrchestrator

ROOT = Path(__file__).parents[2]


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below `folder` with a digest of its content and rights; folders by their names."""
    found = {}
    for top, folders, names in os.walk(folder):
        for name in folders:
            found[os.path.relpath(os.path.join(top, name), folder)] = "folder"
        for name in names:
            path = Path(top, name)
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            found[os.path.relpath(path, folder)] = f"{hashlib.sha256(content).hexdigest()} {path.lstat().st_mode:o}"
    return found


def test_nothing_else_is_written(ground, tmp_path, hermetic_environment, monkeypatch):
    """Trials and worktrees write into the pool, the git directory's own subfolder and git's own records only."""
    monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(tmp_path / "cache"))
    ground.builder.write({"a.txt": "the user's\n", "untracked": "too\n", ".env": "x\n"})
    before, home_before = snapshot(tmp_path), snapshot(hermetic_environment)
    patch = b"--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+uno\n"

    async def carry_out() -> None:
        executor = LocalExecutor.open(ground.repository, jobs=2)
        script = CommandSpec(("cat a.txt; echo x > new; rm -r dir; git add -A",), True)
        common = {"run": "r", "attempt": 1, "command": script, "include": (".env",), "setup": CommandSpec(("true",))}
        trials = await asyncio.gather(
            *(
                executor.execute(TrialRequest(hypothesis=f"h{n}", commit=ground.one, patches=(patch,), **common))
                for n in range(6)
            )
        )
        assert {trial.outcome for trial in trials} == {Outcome.PASSED}
        await executor.close()

    asyncio.run(carry_out())
    with WorktreeOrchestrator(ground.repository) as orchestrator:
        orchestrator.create_worktrees({"one": ground.one})
    after = snapshot(tmp_path)
    allowed = re.compile(r"cache(/|$)|project/\.git/(arboretum|worktrees|objects)(/|$)")
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    assert [path for path in sorted(changed) if not allowed.match(path)] == []
    assert snapshot(hermetic_environment) == home_before


def test_the_document_names_tests_that_exist():
    """Each promise names the tests that hold it, and they are there."""
    text = (ROOT / "docs/explanation/safety.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    written = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        written |= set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
        written.add(path.stem)
    assert named
    assert named <= written
