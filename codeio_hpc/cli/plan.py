"""What something will take, before it is started: a dataset, a training."""

from __future__ import annotations

import argparse
from pathlib import Path

from codeio_hpc.cli.verb import Verbs, add_verb, output


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this file."""
    plans = verbs.add_parser("plan", help="what something will take, before it is started")
    kinds = plans.add_subparsers(metavar="COMMAND", required=True)
    _add_data(kinds)
    _add_train(kinds)


def _add_data(kinds: Verbs) -> None:
    data = add_verb(kinds, "data", _plan_data, "plan a build")
    data.add_argument("config", type=Path, metavar="CONFIG", help="a run configuration (YAML)")
    data.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, e.g. launch.task_lasts=10")
    data.add_argument("--site", metavar="NAME", help="on this SLURM site (default: local processes)")
    data.add_argument("--like", type=Path, metavar="RUN", help="a complete run whose costs and yields are taken")
    data.add_argument(
        "--assume", action="append", default=[], metavar="NAME=VALUE", help="e.g. files=100000 or preemptions=0.2"
    )
    data.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw tasks, shards and lost work over time")


def _add_train(kinds: Verbs) -> None:
    train = add_verb(kinds, "train", _plan_train, "plan a training: memory, hours, checkpoints, lost work")
    train.add_argument("recipe", metavar="RECIPE", help="the NAME of configs/models/NAME.yaml, or a path")
    train.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, e.g. zero=3")
    train.add_argument("--stage", choices=("stage1", "stage2", "rft"), help="only this one (default: all)")
    train.add_argument("--site", metavar="NAME", help="nodes, GPUs and preemption of this SLURM site's class train")
    train.add_argument("--nodes", type=int, metavar="N", help="default: the site's, else 1")
    train.add_argument("--gpus-per-node", type=int, metavar="G", help="default: the site's, else 8")
    train.add_argument("--gpu", metavar="KIND", help="a100-40, a100-80, h100, h200, or cpu")
    train.add_argument("--gpu-memory", type=float, metavar="BYTES", help="of a GPU that is none of these")
    train.add_argument("--gpu-tflops", type=float, metavar="T", help="its peak in bfloat16 or float16, dense")
    train.add_argument("--run", type=Path, metavar="DIR", help="a run folder: its tokens are counted")
    train.add_argument("--samples", type=int, metavar="N", help="without --run: so many")
    train.add_argument("--tokens-per-sample", type=float, metavar="T", help="and so long on average")
    train.add_argument("--mfu", type=float, metavar="SHARE", help="model FLOP/s utilisation, as measured")
    train.add_argument("--bandwidth", type=float, metavar="B", help="bytes a second to the file system, of all ranks")
    train.add_argument("--preemptions-per-day", type=float, metavar="X", help="of the job")
    train.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw a GPU's memory over the number of GPUs")


def _plan_data(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.planning.forecast import plan_data
    from codeio_hpc.launch.planning.forecast_text import forecast_text
    from codeio_hpc.launch.sites.files import load_site

    site = load_site(options.site) if options.site else None
    plan = plan_data(options.config, options.overrides, site, options.like, options.assume)
    output(options, plan, forecast_text(plan))
    if options.plot is not None:
        from codeio_hpc.report.courses import write_plot

        write_plot(plan, options.plot)
    return 0


def _plan_train(options: argparse.Namespace) -> int:
    from codeio_hpc.launch.sites.files import load_site
    from codeio_hpc.train.planner.forecast import Data, Given, plan_training
    from codeio_hpc.train.planner.forecast_text import forecast_text
    from codeio_hpc.train.planner.hardware import cluster_of
    from codeio_hpc.train.recipes import find_recipe

    site = load_site(options.site) if options.site else None
    shape = (options.nodes, options.gpus_per_node, options.gpu, options.gpu_memory, options.gpu_tflops)
    cluster, path = cluster_of(*shape, site), find_recipe(options.recipe)
    data = Data(options.run, options.samples, options.tokens_per_sample)
    given = Given(options.mfu, options.bandwidth, options.preemptions_per_day)
    plan = plan_training(path, options.overrides, options.stage, cluster, data, given)
    output(options, plan, forecast_text(plan))
    if options.plot is not None:
        from codeio_hpc.report.memory import write_plot
        from codeio_hpc.train.planner.forecast import memory_by_nodes

        line = memory_by_nodes(path, options.overrides, options.stage, cluster)
        title = f"{plan['recipe']} on {plan['cluster']['name']}, {cluster.gpus_per_node} a node"
        write_plot(title, {plan["recipe"]: line}, cluster.gpu.usable, options.plot)
    return 0
