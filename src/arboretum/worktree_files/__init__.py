"""How a worktree gets its files: copied, cloned or snapshotted from a warm sibling instead of checked out."""
