"""What the shell brings along, and the model cache."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from codeio_hpc.config.site import Site
from codeio_hpc.launch.doctor.finding import Finding
from codeio_hpc.launch.doctor.storage import filesystem

_STALE_SECONDS = 3600
_MOST_LOCKS = 10_000
"""Of a cache's lock files that are looked at."""


def environment_findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that change what sbatch does."""
    options = sorted(name for name in environ if name.startswith("SBATCH_"))
    if options:
        fix = f"they override the scripts' own lines; a module sets them? unset {' '.join(options)}"
        yield Finding("SBATCH_* variables", ", ".join(options), "warn", fix)
    else:
        yield Finding("SBATCH_* variables", "none")
    if "SLURM_JOB_ID" in environ:  # others are set outside of jobs too, such as SLURM_TIME_FORMAT
        inherited = sorted(name for name in environ if name.startswith(("SLURM_", "SRUN_")) and name != "SLURM_CONF")
        fix = "you are inside a job: what is submitted from here inherits its bindings; use a login shell"
        yield Finding("SLURM_* variables", f"{len(inherited)}: {', '.join(inherited[:4])}…", "warn", fix)
    else:
        yield Finding("SLURM_* variables", "none")


def cache_findings(environ: Mapping[str, str], site: Site | None) -> Iterator[Finding]:
    """Where models are looked for, whether a download may be tried, and locks that dead jobs left."""
    home = Path(environ.get("HF_HOME") or Path(environ.get("HOME", "/")) / ".cache" / "huggingface")
    hub = Path(environ.get("HF_HUB_CACHE") or home / "hub")
    offline = environ.get("HF_HUB_OFFLINE", "") not in ("", "0") or bool(site and site.offline)
    if hub.exists():
        yield Finding("model cache", f"{hub} on {filesystem(hub)}")
    elif offline:
        fix = "models from the hub must be fetched where there is a network, before jobs want them: HF_HOME on scratch"
        yield Finding("model cache", f"{hub}: not there, and jobs are offline", "warn", fix)
    else:
        yield Finding("model cache", f"{hub}: not there yet")
    yield Finding("offline flags", "set for jobs (HF_HUB_OFFLINE and the like)" if offline else "not set")
    yield stale_locks(hub / ".locks", time.time())


def stale_locks(folder: Path, now: float) -> Finding:
    """Lock files older than an hour: on some shared file systems they block every later job."""
    old = 0
    for lock in islice(folder.rglob("*.lock"), _MOST_LOCKS):
        try:
            old += now - lock.stat().st_mtime > _STALE_SECONDS
        except OSError:  # gone meanwhile
            continue
    if not old:
        return Finding("stale locks", "none")
    fix = f"if nothing is being downloaded: find {folder} -name '*.lock' -mmin +60 -delete"
    return Finding("stale locks", f"{old} older than an hour in {folder}", "warn", fix)
