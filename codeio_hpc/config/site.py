"""What is true of one cluster, as data: partitions, accounts, memory style, limits, who requeues, environment."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from codeio_hpc.config.load import Minutes, Settings

MemoryStyle = Literal["mem", "mem-per-cpu", "mem-per-gpu", "none"]
RequeueOwner = Literal["slurm", "self", "none"]


def _one_word(text: str) -> str:
    if not re.fullmatch(r"[^\s'\"`$\\]+", text):
        raise ValueError("a name given to sbatch has no blanks, quotes, '$' or backslashes")
    return text


def _flag(text: str) -> str:
    if not re.fullmatch(r"--[a-z][a-z0-9-]*(=[^\n]+)?", text):
        raise ValueError("a flag is written as sbatch's long form in one piece: '--name' or '--name=value'")
    return text


def _bind(text: str) -> str:
    if not re.fullmatch(r"/[^\s,:'\"`]*(:/[^\s,:'\"`]*(:r[ow])?)?", text):
        raise ValueError("a bind is written /outside or /outside:/inside or /outside:/inside:ro, without blanks")
    return text


Name = Annotated[str, AfterValidator(_one_word)]
Flag = Annotated[str, AfterValidator(_flag)]


class Memory(Settings):
    """How memory is asked for: some sites want it per node, some per CPU or GPU, and some refuse any such flag."""

    style: MemoryStyle = "none"
    value: str | None = Field(default=None, pattern=r"^[1-9][0-9]*[KMGT]$")
    """With its unit, such as 16G."""

    @model_validator(mode="after")
    def _value_belongs_to_a_style(self) -> Memory:
        if (self.style == "none") != (self.value is None):
            raise ValueError("'value' belongs to each style but none; style: none has no value")
        return self


class Preemption(Settings):
    """What happens to this class's jobs when others come first. The planner of checkpoints reads it; jobs rely on none
    of it: a warning may always fail to come."""

    mode: Literal["off", "requeue", "cancel"] = "off"
    """PreemptMode of the partition. ``cancel``: SLURM does not bring the job back."""
    grace_seconds: int = Field(default=0, ge=0)
    """The partition's GraceTime: between the first signal and the end. SLURM's own default is 0."""
    warned: bool = False
    """The site sets send_user_signal: the signal of ``--signal`` comes at preemption too, at the start of the grace."""


class Preemptor(Settings):
    """Where a job has to be submitted to take nodes from this class's jobs; ``codeio drill`` does it, to see what
    happens. What is left out is the class's own."""

    partition: Name | None = None
    account: Name | None = None
    qos: Name | None = None

    @model_validator(mode="after")
    def _names_who_comes_first(self) -> Preemptor:
        if self.partition is None and self.qos is None:
            raise ValueError("name the partition, or the qos, whose jobs come first")
        return self


class Resources(Settings):
    """The allocation of one class of work: what sbatch is told."""

    partition: Name | None = None
    """None: the cluster's default. Several are joined by commas."""
    account: Name | None = None
    qos: Name | None = None
    constraint: Name | None = None
    nodes: int = Field(default=1, ge=1)
    ranks_per_node: int = Field(default=1, ge=1)
    """Processes started on each node."""
    gpus_per_node: int = Field(default=0, ge=0)
    gpu_type: Name | None = None
    gpu_flag: Literal["gpus-per-node", "gres"] = "gpus-per-node"
    """How this site wants GPUs to be asked for."""
    cpus_per_rank: int = Field(default=1, ge=1)
    memory: Memory = Memory()
    time: Minutes
    """Time limit: '1:30:00' or '90m'. A data task takes the run's ``launch.task_time`` if that is shorter."""
    flags: tuple[Flag, ...] = ()
    """Further sbatch flags, as '--name=value'."""
    preemption: Preemption = Preemption()
    preempted_by: Preemptor | None = None
    image: str | None = Field(default=None, pattern=r"^[^\n\"'`]+$")
    """Of the classes ``cpu`` and ``train``: the container image that data tasks, or ranks, run in, an absolute path or
    in a registry; needs ``container.runtime``."""

    @model_validator(mode="after")
    def _gpu_settings_need_gpus(self) -> Resources:
        if not self.gpus_per_node and (self.gpu_type or self.memory.style == "mem-per-gpu"):
            raise ValueError("gpu_type and memory style mem-per-gpu need gpus_per_node")
        return self


class ResourceClasses(Settings):
    """The three classes of work."""

    cpu: Resources
    """One task of a data array, and small jobs that submit others."""
    gpu: Resources | None = None
    """One process with GPUs: evaluation, serving."""
    train: Resources | None = None
    """Training: all nodes and ranks of one job."""


class Container(Settings):
    """How this site runs container images."""

    runtime: Literal["none", "apptainer", "pyxis"] = "none"
    binds: tuple[Annotated[str, AfterValidator(_bind)], ...] = ()
    """Folders that a container sees, as ``/outside`` or ``/outside:/inside[:ro]``: beside the run's and those that its
    configuration names for data tasks, beside the folder that the job was submitted in for training. The project is in
    the image."""
    flags: tuple[Flag, ...] = ()
    """Further flags: of ``apptainer exec``, or of ``srun`` where the runtime is pyxis."""


class Site(Settings):
    """One cluster."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    resources: ResourceClasses
    container: Container = Container()
    max_array_size: int = Field(default=1001, ge=1)
    """SLURM's MaxArraySize (``scontrol show config``): it bounds the index, so an array has at most this many elements,
    0 to one less. Work for more is split over several arrays."""
    max_tasks_at_once: int = Field(default=64, ge=1)
    """Elements of a run's arrays that run at the same time."""
    max_submissions_per_minute: int = Field(default=20, ge=1)
    """Calls of sbatch for one run: one for each array, one for the job that steers on after them. What would be more
    waits. A guard against a circle of failing and submitting again."""
    requeue: RequeueOwner = "self"
    """Who brings back a job that saved its state and ended (exit code 85). ``self``: the batch script, by
    ``scontrol requeue``; ``slurm``: the site's RequeueExit has that code; ``none``: a person."""
    max_requeues: int = Field(default=50, ge=0)
    """A job that was restarted this often is not requeued again."""
    preflight: bool = False
    """Training jobs test their nodes before they train (``codeio preflight``), and start again without those that are
    bad. In a job's environment CODEIO_PREFLIGHT=1 or 0 says otherwise."""
    preflight_floor: float = Field(default=0.8, gt=0, lt=1)
    """A node whose rates are below this share of the median is bad."""
    scratch: str | None = Field(default=None, pattern=r"^[^\n\"`;]+$")
    """Node-local folder for caches; may name variables of the job, as in ${SLURM_TMPDIR:-/tmp}: what is not set is
    nothing, and without ``:-`` that leaves ``/``. None: $TMPDIR, else /tmp."""
    offline: bool = True
    """Compute nodes have no way out: Hugging Face libraries are told not to try."""
    environment: tuple[str, ...] = ()
    """Shell lines that every job runs first: modules, exports."""

    @model_validator(mode="after")
    def _images_can_be_started(self) -> Site:
        classes = {name: getattr(self.resources, name) for name in ResourceClasses.model_fields}
        for name, resources in classes.items():
            if resources is None or not resources.image:
                continue
            if name not in ("cpu", "train"):
                raise ValueError(
                    f"resources.{name}.image is not used: data tasks (resources.cpu) and ranks (resources.train) run "
                    "in an image, evaluation in the Python environment of CODEIO_HOME; leave it out"
                )
            if self.container.runtime == "none":
                raise ValueError(f"resources.{name}.image needs container.runtime: apptainer, or pyxis")
            # jobs run in folders of their own, and nothing expands '~' or a variable there
            if not re.match(_IMAGES[self.container.runtime], resources.image):
                raise ValueError(f"resources.{name}.image: write an absolute path, or docker://NAME for a registry's")
        return self


_IMAGES = {
    "apptainer": r"/|[a-z]+://",
    "pyxis": r"/|\w",  # a name without a scheme is a registry's for enroot
}
"""How the name of an image begins."""
