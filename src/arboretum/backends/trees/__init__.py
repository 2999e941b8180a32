"""Trees of files compared, patched and merged as git does it, over any store of objects. Pure."""
