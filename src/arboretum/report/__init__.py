"""What a run found, for people and for machines: terminal, JSON, JUnit, Markdown, HTML."""
