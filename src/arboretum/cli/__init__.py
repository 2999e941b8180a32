"""The command: options in, exit codes out. `render` is the only printer."""
