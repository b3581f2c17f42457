"""The engine: what is missing in a run, who does it (this process, local processes, job arrays), and how far it is."""
