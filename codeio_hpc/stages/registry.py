"""The stages of a run, in order, and what goes into the first. A new stage is one new file and one line here."""

from __future__ import annotations

from collections.abc import Iterator

from codeio_hpc.config import RunConfig
from codeio_hpc.stages.answer import Answer
from codeio_hpc.stages.assemble import Assemble
from codeio_hpc.stages.base import Stage
from codeio_hpc.stages.collect import Collect
from codeio_hpc.stages.decontaminate import Decontaminate, DecontaminateSamples
from codeio_hpc.stages.import_ import Import
from codeio_hpc.stages.origin import list_sources
from codeio_hpc.stages.pose import Pose
from codeio_hpc.stages.revise import Revise
from codeio_hpc.stages.sample import Sample
from codeio_hpc.stages.sample_origin import Say, list_samples
from codeio_hpc.stages.split import Split
from codeio_hpc.stages.tokenise import Tokenise
from codeio_hpc.stages.transform import Transform
from codeio_hpc.stages.verify import Verify
from codeio_hpc.tables import Row


def pipeline(config: RunConfig) -> tuple[Stage, ...]:
    """The stages that this configuration asks for: without benchmarks nothing is compared with them, and without a
    recipe there is no tokenizer, so no tokens."""
    compares = bool(config.decontaminate.benchmarks)
    stages: tuple[Stage, ...] = (
        Collect(),
        Transform(),
        Split(),
        Sample(),
        Pose(),
        Answer(),
        Verify(),
        Revise(),
        *((Decontaminate(),) if compares else ()),
        Assemble(),
    )
    if config.samples:
        stages = (Import(), *((DecontaminateSamples(),) if compares else ()))
    return (*stages, Tokenise()) if config.recipe else stages


def list_rows(config: RunConfig, say: Say = lambda text: None) -> Iterator[Row]:
    """The rows of the sources table: raw files, or finished samples; see there for what is raised."""
    return list_samples(config, say) if config.samples else list_sources(config)
