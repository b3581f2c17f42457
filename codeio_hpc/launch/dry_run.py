"""`codeio build --dry-run`: what would be done and submitted, word for word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeio_hpc.config import RunConfig
from codeio_hpc.launch.run import Run, open_run_of, source_rows
from codeio_hpc.launch.status import unit_of

if TYPE_CHECKING:
    from codeio_hpc.config.site import Site


def dry_run(config: RunConfig, folder: Path | None, site: Site | None) -> dict[str, Any]:
    """What `build` would do, without writing anything: stages, shards, tasks, and for a site every batch script and the
    command that submits it."""
    from codeio_hpc.launch.build import Round
    from codeio_hpc.launch.packing import pack
    from codeio_hpc.launch.plan import Look, steps
    from codeio_hpc.stages.registry import list_rows

    target = (folder or Path("runs") / config.name).resolve()
    run = open_run_of(target, config)
    if run is None:
        files = sum(1 for _ in list_rows(config))
        run = Run(target, config, -(-files // config.rows_per_shard))
    else:
        files = source_rows(run)
    plan: dict[str, Any] = {
        "run": str(target),
        "files": files,
        "unit": unit_of(config),
        "shards": run.shards,
        "steps": [],
    }
    look = Look(run, may_save=False)
    for step in steps(run):
        work = Round(step, step.missing(run, look))
        if not work.shards:
            continue
        entry: dict[str, Any] = {"step": step.name, "stages": [place.stage.name for place in step.places]}
        if site is None:
            tasks = pack(work.shards, lambda shard: 1.0, float("inf"), max(1, config.launch.workers))
            entry["tasks"] = [len(task) for task in tasks]
        else:
            from codeio_hpc.launch.jobs import scripts_of
            from codeio_hpc.launch.submission import plan_round

            record = plan_round(run, site, work, look)
            entry["tasks"] = [len(task) for task in record.tasks]
            entry["jobs"] = scripts_of(run, site, record)
        plan["steps"].append(entry)
    return plan


def dry_run_text(plan: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"would build {plan['run']}: {plan['files']:,} {plan['unit']} in {plan['shards']} shards"]
    if not plan["steps"]:
        return f"{plan['run']}: {plan['files']:,} {plan['unit']} in {plan['shards']} shards; nothing is missing"
    for step in plan["steps"]:
        lines.append(f"  {step['step']}: {len(step['tasks'])} tasks of {max(step['tasks'], default=0)} shards or less")
        for job in step.get("jobs", ()):
            lines += [f"    $ {job['command']}", *(f"    | {line}" for line in job["script"].splitlines())]
    return "\n".join(lines)
