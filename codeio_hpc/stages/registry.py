"""The stages of a build, in order. A new stage is one new file and one line here."""

from __future__ import annotations

from codeio_hpc.config import RunConfig
from codeio_hpc.stages.answer import Answer
from codeio_hpc.stages.assemble import Assemble
from codeio_hpc.stages.base import Stage
from codeio_hpc.stages.collect import Collect
from codeio_hpc.stages.decontaminate import Decontaminate
from codeio_hpc.stages.pose import Pose
from codeio_hpc.stages.revise import Revise
from codeio_hpc.stages.sample import Sample
from codeio_hpc.stages.split import Split
from codeio_hpc.stages.tokenise import Tokenise
from codeio_hpc.stages.transform import Transform
from codeio_hpc.stages.verify import Verify


def pipeline(config: RunConfig) -> tuple[Stage, ...]:
    """The stages that this configuration asks for: without benchmarks nothing is compared with them, and without a
    recipe there is no tokenizer, so no tokens."""
    stages: tuple[Stage, ...] = (
        Collect(),
        Transform(),
        Split(),
        Sample(),
        Pose(),
        Answer(),
        Verify(),
        Revise(),
        *((Decontaminate(),) if config.decontaminate.benchmarks else ()),
        Assemble(),
    )
    return (*stages, Tokenise()) if config.recipe else stages
