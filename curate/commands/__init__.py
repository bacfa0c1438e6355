"""One function per command: load, transform, commit, check. Command line, pipelines and notebooks all call these."""
