"""What a live cluster says of itself, asked once a command, and read as the facts that a site file states."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from codeio_hpc.config.site import Preemption
from codeio_hpc.launch import slurm
from codeio_hpc.launch.notice import SAVED
from codeio_hpc.launch.slurm import Partition


@dataclass(frozen=True)
class Cluster:
    """slurm.conf as the controller has it, and the partitions."""

    settings: Mapping[str, str]
    partitions: tuple[Partition, ...]

    def setting(self, name: str) -> str | None:
        """A setting; None if it is not set or this SLURM does not know it."""
        value = self.settings.get(name, "")
        return None if value in ("", "(null)", "N/A", "NONE") else value

    def number(self, name: str) -> int | None:
        """The number that a setting begins with: 30 of "30 sec"."""
        found = re.match(r"\d+", self.settings.get(name, ""))
        return int(found[0]) if found else None

    def option(self, name: str, option: str) -> str | None:
        """An option in a setting that is a list of them: its value, "" if it has none, None if it is not there."""
        for word in (self.setting(name) or "").split(","):
            key, _, value = word.partition("=")
            if key == option:
                return value
        return None

    def partition(self, name: str | None) -> Partition | None:
        """The partition of that name; for None the default one."""
        for partition in self.partitions:
            if partition.name == name or (name is None and partition.is_default):
                return partition
        return None

    def named(self, names: str | None) -> tuple[list[Partition], list[str]]:
        """The partitions that a site file names (joined by commas), and those names that do not exist."""
        wanted = [None] if names is None else names.split(",")
        found = {name: self.partition(name) for name in wanted}
        unknown = [name or "(default)" for name, partition in found.items() if partition is None]
        return [partition for partition in found.values() if partition is not None], unknown

    @property
    def max_array_tasks(self) -> int | None:
        """How many elements an array may have, by MaxArraySize and max_array_tasks; None if SLURM tells neither."""
        tasks = self.option("SchedulerParameters", "max_array_tasks")
        limits = [self.number("MaxArraySize"), int(tasks) if tasks and tasks.isdigit() else None]
        return min((limit for limit in limits if limit is not None), default=None)

    @property
    def requeue_owner(self) -> Literal["slurm", "self"]:
        """Who is to bring back a job that ended with exit code 85: SLURM itself where RequeueExit has that, else the
        batch script. Two who requeue start a job twice."""
        for word in (self.setting("RequeueExit") or "").split(","):
            first, _, last = word.partition("-")
            if first.isdigit() and int(first) <= SAVED <= int(last or first):
                return "slurm"
        return "self"

    @property
    def signals_at_preemption(self) -> bool:
        """Whether the signal of ``--signal`` is sent at preemption too. Before SLURM 23.02 the option had another name
        and place."""
        return (
            self.option("PreemptParameters", "send_user_signal") is not None
            or self.option("SlurmctldParameters", "preempt_send_user_signal") is not None
        )

    @property
    def preempts(self) -> str | None:
        """By what SLURM decides who gives way: ``partition_prio`` or ``qos``; None: nobody does."""
        kind = (self.setting("PreemptType") or "preempt/none").removeprefix("preempt/")
        return None if kind == "none" else kind

    def whole_nodes(self, partition: Partition) -> str | None:
        """The setting by which a job on this partition gets whole nodes, whatever it asks for; None: it shares them."""
        if partition.exclusive:
            return "OverSubscribe=EXCLUSIVE"
        return "SelectType=select/linear" if self.setting("SelectType") == "select/linear" else None

    def preemption(self, partition: Partition) -> Preemption:
        """What happens to jobs on a partition that have to give way.

        A partition of the highest tier gives way to none. Whether a higher one shares its nodes is not looked at.
        Under preempt/qos the QOS decides, and grace times are the QOS's: this is then only the cluster's default.
        """
        mode = self._mode(partition)
        if mode == "off":
            return Preemption()
        grace = partition.grace_seconds
        return Preemption(mode=mode, grace_seconds=grace, warned=self.signals_at_preemption)

    def _mode(self, partition: Partition) -> Literal["off", "requeue", "cancel"]:
        highest = max((other.tier for other in self.partitions), default=partition.tier)
        if self.preempts is None or (self.preempts == "partition_prio" and partition.tier >= highest):
            return "off"
        words = partition.preempt_mode.upper().split(",")
        return "requeue" if "REQUEUE" in words else "cancel" if "CANCEL" in words else "off"


def ask_cluster() -> Cluster:
    """Three calls: configuration, partitions, and their nodes.

    Raises:
        SchedulerError: SLURM is not installed here or does not answer.
    """
    return Cluster(slurm.configuration(), tuple(slurm.partitions()))
