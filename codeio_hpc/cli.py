"""The command line: verbs only. Parse, call one function, print."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from codeio_hpc import __version__
from codeio_hpc.errors import RunFailedError, UserError

USER_ERROR = 2
INTERRUPTED = 130
FAILED = 1

LATEST = Path("runs/latest")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. A user's mistake is two lines on stderr and code 2, never a traceback."""
    options = _parse(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except UserError as error:
        print(f"codeio: {error}", file=sys.stderr)
        return USER_ERROR
    except RunFailedError as error:
        print(f"codeio: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\ncodeio: stopped; what is published stays. The same command continues.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """As argparse does, but key=value may also stand behind options, which argparse takes for a mistake."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    late = [word for word in rest if "=" in word and not word.startswith("-")]
    if rest and not (hasattr(options, "overrides") and late == rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codeio",
        description="Raw code to verified reasoning data, two-stage training and evaluation, on SLURM.",
        epilog="Start here: codeio build configs/runs/demo.yaml",
    )
    parser.add_argument("--version", action="version", version=f"codeio {__version__}")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    _build_verbs(verbs)
    _plan_verbs(verbs)
    _operation_verbs(verbs)
    _model_verbs(verbs)
    _export_verb(verbs)
    _row_verbs(verbs)
    _tool_verbs(verbs)
    _site_verbs(verbs)
    _doctor_verb(verbs)
    return parser


Verbs = Any  # argparse's type of add_subparsers() is private


def _build_verbs(verbs: Verbs) -> None:
    build = _verb(verbs, "build", _build, "build a dataset, or continue building it")
    build.add_argument("config", type=Path, metavar="CONFIG", help="a run configuration (YAML)")
    build.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, e.g. sample.pairs=6")
    build.add_argument("--run", type=Path, metavar="DIR", help="the run folder (default: runs/NAME)")
    build.add_argument(
        "--preset", action="append", default=[], metavar="NAME", help="settings of configs/runs/ablations/NAME.yaml"
    )
    build.add_argument("--dry-run", action="store_true", help="show what would be done; write nothing")
    _where_options(build)

    resume = _verb(verbs, "resume", _resume, "do what is missing in a run")
    resume.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    _where_options(resume)

    status = _run_verb(verbs, "status", _status, "show how far a run is, and why tasks ended")
    status.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=10.0,
        metavar="SECONDS",
        help="show it anew every so often (default: 10)",
    )


def _plan_verbs(verbs: Verbs) -> None:
    plan = verbs.add_parser("plan", help="what something will take, before it is started")
    data = _verb(plan.add_subparsers(metavar="COMMAND", required=True), "data", _plan_data, "plan a build")
    data.add_argument("config", type=Path, metavar="CONFIG", help="a run configuration (YAML)")
    data.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, e.g. launch.task_lasts=10")
    data.add_argument("--site", metavar="NAME", help="on this SLURM site (default: local processes)")
    data.add_argument("--like", type=Path, metavar="RUN", help="a complete run whose costs and yields are taken")
    data.add_argument(
        "--assume", action="append", default=[], metavar="NAME=VALUE", help="e.g. files=100000 or preemptions=0.2"
    )
    data.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw tasks, shards and lost work over time")


def _run_verb(
    verbs: Verbs, name: str, command: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    verb = _verb(verbs, name, command, text)
    verb.add_argument("run", type=Path, nargs="?", default=LATEST, metavar="RUN", help=f"default: {LATEST}")
    return verb


def _operation_verbs(verbs: Verbs) -> None:
    logs = _run_verb(verbs, "logs", _logs, "print the log of the task that failed last")
    logs.add_argument("--attempt", metavar="NAME", help="of this attempt; status and the records have the names")
    logs.add_argument("--path", action="store_true", help="print where it is, not what is in it")

    cancel = _run_verb(verbs, "cancel", _cancel, "end a run's SLURM jobs; what is published stays")
    cancel.add_argument("--stuck", action="store_true", help="only those that will never start")

    _run_verb(verbs, "pack", _pack, "put logs and attempt records of a run at rest into one file")
    _run_verb(verbs, "clean", _clean, "remove files that nobody needs: temporary files of killed tasks, submitit's")
    _run_verb(verbs, "usage", _usage, "CPU-hours, GPU-hours, efficiency and files of a run")


def _where_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--site", metavar="NAME", help="run as job arrays on this SLURM site (configs/sites/NAME.yaml)")
    verb.add_argument("--wait", action="store_true", help="with --site: stay until the dataset is complete")


def _model_verbs(verbs: Verbs) -> None:
    train = _verb(verbs, "train", _train, "train on a run's packed tokens")
    train.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    train.add_argument("--stage", required=True, choices=("stage1", "stage2"))
    train.add_argument("--ranks", type=int, help="start this many ranks here (default: what SLURM says, else one)")

    evaluate = _verb(verbs, "evaluate", _evaluate, "measure models on the run's held-out functions")
    evaluate.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    evaluate.add_argument("--model", action="append", dest="models", metavar="NAME", help="a folder of RUN/models")

    report = _verb(verbs, "report", _report, "write the run's report page")
    report.add_argument("run", type=Path, metavar="RUN", help="the run folder")


def _export_verb(verbs: Verbs) -> None:
    export = _verb(verbs, "export", _export, "write the samples in the format of another trainer, with a dataset card")
    export.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    export.add_argument(
        "--as",
        dest="form",
        default="hf",
        metavar="FORMAT",
        help="hf (default), parquet, jsonl, messages, trl, axolotl, llama-factory, alpaca, public",
    )
    export.add_argument("--out", type=Path, metavar="DIR", help="default: RUN/export/FORMAT-STAGE")
    export.add_argument("--stage", default="stage1", choices=("stage1", "stage2"), help="of training (default: stage1)")


def _row_verbs(verbs: Verbs) -> None:
    show = _verb(verbs, "show", _show, "follow one row: from its raw file to it, and what was made of it")
    show.add_argument(
        "run", type=Path, nargs="?", default=Path("runs/latest"), metavar="RUN", help="default: runs/latest"
    )
    show.add_argument("id", metavar="ID", help="a row's id, from any table, `codeio rejected` or the report page")
    show.add_argument("--full", action="store_true", help="long texts are not cut")

    rejected = _verb(verbs, "rejected", _rejected, "what was dropped, by stage and reason")
    rejected.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    rejected.add_argument("--why", metavar="REASON", help="list the rows that were dropped for this reason")
    rejected.add_argument("--stage", metavar="STAGE", help="only by this stage")
    rejected.add_argument("--limit", type=int, default=20, metavar="N", help="rows listed with --why (default: 20)")


def _tool_verbs(verbs: Verbs) -> None:
    execute = _verb(verbs, "exec", _exec, "execute functions in the sandbox: JSON lines in, JSON lines out", json=False)
    execute.add_argument("--in", dest="source", default="-", metavar="FILE", help="requests (default: stdin)")
    execute.add_argument("--out", dest="sink", default="-", metavar="FILE", help="results (default: stdout)")
    execute.add_argument("--workers", type=int, default=1)
    execute.add_argument("--limits", nargs="*", default=[], metavar="key=value", help="e.g. cpu_seconds=5")
    execute.add_argument("--isolation", default="landlock+seccomp", metavar="LEVEL", help="the least that is accepted")


def _site_verbs(verbs: Verbs) -> None:
    site = verbs.add_parser("site", help="facts of a cluster").add_subparsers(metavar="COMMAND", required=True)
    init = _verb(site, "init", _site_init, "write a site file from what the cluster says, each guess with its reason")
    init.add_argument("name", nargs="?", metavar="NAME", help="of configs/sites/NAME.yaml (default: default)")
    init.add_argument("--force", action="store_true", help="replace the file if it is there")
    init.add_argument("--account", action="append", default=[], metavar="NAME", help="an account to try")
    check = _verb(site, "check", _site_check, "hold a site file against the cluster")
    flags = _verb(site, "flags", _site_flags, "the sbatch flags of a resource class, one a line", json=False)
    flags.add_argument("resource", metavar="CLASS", help="a resource class of the site file")
    text = "the shell lines that a job on this site runs first"
    environment = _verb(site, "environment", _site_environment, text, json=False)
    environment.add_argument("resource", nargs="?", default="cpu", metavar="CLASS", help="default: cpu")
    for verb in (check, flags, environment):
        verb.add_argument("--site", metavar="NAME", help="default: $CODEIO_SITE, else the site named 'default'")


def _doctor_verb(verbs: Verbs) -> None:
    doctor = _verb(verbs, "doctor", _doctor, "look at SLURM, this host and compute nodes, and say what to change")
    doctor.add_argument("--site", metavar="NAME", help="default: $CODEIO_SITE, else the site named 'default'")
    doctor.add_argument("--run", type=Path, metavar="DIR", help="a run folder: its file system, its training's times")
    doctor.add_argument("--compute", action="store_true", help="also on one compute node of each resource class")
    # what a compute node is told by the login host
    doctor.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    doctor.add_argument("--class", dest="resource", default="cpu", help=argparse.SUPPRESS)
    doctor.add_argument("--meeting", type=Path, help=argparse.SUPPRESS)


def _verb(
    verbs: Verbs, name: str, command: Callable[[argparse.Namespace], int], text: str, json: bool = True
) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    verb.set_defaults(command=command)
    if json:
        verb.add_argument("--json", action="store_true", help="print JSON")
    return verb


def _print(options: argparse.Namespace, data: dict[str, Any], text: str) -> None:
    print(json.dumps(data, indent=1) if options.json else text)


def _build(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands
    from codeio_hpc.launch.sites import load_site

    site = load_site(options.site) if options.site else None
    if options.dry_run:
        plan = commands.dry_run(options.config, options.overrides, options.preset, options.run, site)
        _print(options, plan, _plan_text(plan))
        return 0
    result = commands.build(
        options.config, options.overrides, options.preset, options.run, site, options.wait, options.json
    )
    return _print_result(options, result)


def _resume(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands
    from codeio_hpc.launch.sites import load_site

    site = load_site(options.site) if options.site else None
    return _print_result(options, commands.resume(options.run, site, options.wait, options.json))


def _print_result(options: argparse.Namespace, result: dict[str, Any]) -> int:
    from codeio_hpc.launch.status import status_text

    text = status_text(result)
    if not result["worked"]:
        text += "\n  nothing was missing"
    elif result["at_work"] and result["state"] != "complete":
        text += f"\n  jobs {', '.join(result['at_work'])} of this run are at work; nothing more was submitted"
    elif result["submitted"] and result["state"] != "complete":
        jobs = result["submitted"]
        arrays = f"array{'s' if len(jobs['arrays']) > 1 else ''} {', '.join(jobs['arrays'])}"
        text += f"\n  submitted {arrays} ({jobs['tasks']} tasks), steered on by job {jobs['steer']}"
    _print(options, result, text)
    return 0


def _plan_text(plan: dict[str, Any]) -> str:
    lines = [f"would build {plan['run']}: {plan['files']:,} files in {plan['shards']} shards"]
    for step in plan["steps"]:
        lines.append(f"  {step['step']}: {len(step['tasks'])} tasks of {max(step['tasks'], default=0)} shards or less")
        for job in step.get("jobs", ()):
            lines += [f"    $ {job['command']}", *(f"    | {line}" for line in job["script"].splitlines())]
    return "\n".join(lines)


def _plan_data(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.forecast import plan_data
    from codeio_hpc.launch.forecast_text import forecast_text
    from codeio_hpc.launch.sites import load_site

    site = load_site(options.site) if options.site else None
    plan = plan_data(options.config, options.overrides, site, options.like, options.assume)
    if options.plot is not None:
        from codeio_hpc.report.courses import write_plot

        write_plot(plan, options.plot)
    _print(options, plan, forecast_text(plan))
    return 0


def _status(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands
    from codeio_hpc.launch.status import status_text

    for status in commands.statuses(options.run, options.watch):
        if options.watch is not None and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        _print(options, status, status_text(status))
    return 0


def _logs(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands

    log = commands.log(options.run, options.attempt)
    if log is None:
        _print(options, {"attempt": None}, "no task of this run ran as a SLURM job: there are no logs")
        return 0
    _print(options, log, log["place"] if options.path else f"{log['heading']}\n{log['text']}")
    return 0


def _cancel(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands

    ids = commands.cancel(options.run, options.stuck)
    _print(options, {"cancelled": ids}, f"cancelled: {', '.join(ids) or 'nothing was in the queue'}")
    return 0


def _pack(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands

    done = commands.pack(options.run)
    files = f"{done['files_before']:,} files and folders before, {done['files_after']:,} after"
    _print(options, done, f"packed {done['packed']:,} files; {files}")
    return 0


def _clean(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands

    done = commands.clean(options.run)
    _print(options, done, f"removed {done['removed']:,} files, {done['bytes']:,} bytes")
    return 0


def _usage(options: argparse.Namespace) -> int:
    from codeio_hpc.launch import commands
    from codeio_hpc.launch.usage import usage_text

    data = commands.usage(options.run)
    _print(options, data, usage_text(data))
    return 0


def _train(options: argparse.Namespace) -> int:
    from codeio_hpc.train.run import train

    return train(options.run, options.stage, options.ranks, options.json)


def _evaluate(options: argparse.Namespace) -> int:
    from codeio_hpc.evaluate.run import evaluate

    return evaluate(options.run, options.models, options.json)


def _report(options: argparse.Namespace) -> int:
    from codeio_hpc.report import write_report

    page = write_report(options.run)
    _print(options, {"report": str(page)}, f"report: {page}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from codeio_hpc.export.write import export

    done = export(options.run, options.form, options.out, options.stage)
    state = "is there already" if done["done_before"] else "written"
    _print(options, done, f"{done['samples']:,} samples in {len(done['files'])} files {state}: {done['out']}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from codeio_hpc.report.rows import show, show_text

    shown = show(options.run, options.id)
    _print(options, shown, show_text(shown, options.full))
    return 0


def _rejected(options: argparse.Namespace) -> int:
    from codeio_hpc.report.rows import rejected, rejected_text

    found = rejected(options.run, options.why, options.stage, options.limit)
    _print(options, found, rejected_text(found))
    return 0


def _exec(options: argparse.Namespace) -> int:
    from codeio_hpc.sandbox.execute import execute

    return execute(options.source, options.sink, options.workers, options.limits, options.isolation)


def _site_init(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.site_init import init_site, init_text

    done = init_site(options.name, options.force, options.account)
    _print(options, done, init_text(done))
    return 0


def _site_check(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.doctor.examine import check_site

    return _print_findings(options, check_site(options.site))


def _doctor(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.doctor import examine

    if options.here:
        _print(options, examine.examine_here(options.site, options.resource, options.run, options.meeting), "")
        return 0
    return _print_findings(options, examine.examine(options.site, options.run, options.compute))


def _print_findings(options: argparse.Namespace, findings: list[Any]) -> int:
    from codeio_hpc.launch.doctor.finding import any_failed, as_data, as_text

    _print(options, as_data(findings), as_text(findings))
    return FAILED if any_failed(findings) else 0


def _site_flags(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.site_flags import sbatch_flags

    print("\n".join(sbatch_flags(_site(options), options.resource)))
    return 0


def _site_environment(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.site_flags import environment_script

    print(environment_script(_site(options), options.resource), end="")
    return 0


def _site(options: argparse.Namespace) -> Any:
    from codeio_hpc.launch.sites import chosen_site, load_site

    return load_site(chosen_site(options.site))
