"""The configuration of one run: what is built from what, with which settings."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from codeio_hpc.config.load import Minutes, Settings
from codeio_hpc.config.samples import ImportSettings, SampleSource

IsolationLevel = Literal["nsjail", "landlock+seccomp", "seccomp", "none"]

Named = TypeVar("Named", "Source", SampleSource)


class RecordColumns(Settings):
    """Which columns (keys of JSON lines) of a file of records hold what."""

    content: str = "content"
    """The raw file."""
    licence: str | None = None
    """Its licence; the source's where the column is empty."""


class FunctionColumns(Settings):
    """Which columns of a file of records hold the parts of a function in the unified format."""

    code: str = "code"
    """Defines ``main_solution``."""
    io_description: str = "io_description"
    generator: str = "generator"
    """Defines ``input_generator()``, or a function of one argument, a ``random.Random``."""
    question: str = "question"


class Source(Settings):
    """Where raw source files come from: exactly one of path, distribution, stdlib, dataset.

    A file named ``*.jsonl``, ``*.jsonl.gz``, ``*.jsonl.zst``, ``*.json`` or ``*.parquet`` is a file of records, each of
    which holds one raw file; so is a Hugging Face dataset.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    path: str | None = None
    """A file or a folder; relative to the working directory."""
    distribution: str | None = None
    """The name of an installed Python distribution, whose own .py files are read."""
    stdlib: bool = False
    """The standard library of the running interpreter."""
    dataset: str | None = None
    """A Hugging Face dataset: a folder made by ``save_to_disk``, or its name on the hub."""
    split: str = "train"
    """Which split of the dataset."""
    columns: RecordColumns = RecordColumns()
    functions: FunctionColumns | None = None
    """Records hold functions in the unified format (with seeded generators, as reasoning-gym's), not raw files."""
    replies: str | None = None
    """Records hold a language model's replies to the transform prompt, in the column of this name: four parts under
    four headings."""
    include: tuple[str, ...] = ("**/*.py",)
    exclude: tuple[str, ...] = ()
    licence: str = "unknown"
    max_files: int | None = Field(default=None, ge=1)

    @property
    def form(self) -> Literal["file", "function", "reply"]:
        """What its rows hold."""
        return "function" if self.functions is not None else "reply" if self.replies is not None else "file"

    @model_validator(mode="after")
    def _exactly_one_origin(self) -> Source:
        origins = (self.path is not None, self.distribution is not None, self.stdlib, self.dataset is not None)
        if sum(origins) != 1:
            raise ValueError("a source has exactly one of path, distribution, dataset and stdlib: true")
        if self.functions is not None and self.replies is not None:
            raise ValueError("records hold functions or replies, not both")
        return self


class CollectSettings(Settings):
    """Which files are kept and how many make one shard."""

    files_per_shard: int = Field(default=64, ge=1)
    min_bytes: int = Field(default=64, ge=0)
    max_bytes: int = Field(default=200_000, ge=1)
    licences: tuple[str, ...] | None = None
    """Licences that are wanted, as the sources name them; files under any other are rejected. None: all."""
    near_duplicates: float | None = Field(default=0.85, ge=0.5, le=1)
    """Files whose similarity to an earlier one is at least this are rejected: the Jaccard index of their runs of five
    tokens, estimated by MinHash. None: only equal files are."""


class TransformSettings(Settings):
    """How functions are made from files. ``static`` lifts pure functions as they are, without a teacher."""

    method: Literal["static"] = "static"
    max_functions_per_file: int = Field(default=40, ge=1)
    max_code_characters: int = Field(default=2_000, ge=1)
    """Functions whose self-contained code is longer are rejected."""
    max_parameters: int | None = Field(default=None, ge=1)
    """Functions with more parameters are rejected."""
    trials: int = Field(default=12, ge=0)
    """Kinds of parameters that are tried in the sandbox where the file does not tell them, or what it tells does not
    work; 0: no code is run."""


class SplitSettings(Settings):
    """Which functions are kept out of training, for evaluation."""

    heldout_fraction: float = Field(default=0.15, ge=0, lt=1)
    """Share of functions, or of clusters of almost equal functions, that are held out."""
    near_duplicates: float | None = Field(default=0.85, ge=0.5, le=1)
    """Functions whose code is at least this similar, names aside, fall on the same side. None: only equal ones."""


class SizeRules(Settings):
    """Limits on inputs and outputs, on every sub-object and key (arXiv 2502.07316, appendix A)."""

    max_bytes: int = 1024
    max_items: int = 20
    max_string: int = 100
    max_leaf_bytes: int = 128


Flag = Literal["constant", "trivial", "leaking", "float_noise"]


class Tier(Settings):
    """What one execution may take, and how large its values may be."""

    name: str = Field(pattern=r"^[a-z0-9_-]+$")
    cpu_seconds: float = Field(default=5.0, gt=0)
    size: SizeRules = SizeRules()


class SampleSettings(Settings):
    """How inputs are drawn and executed."""

    pairs: int = Field(default=10, ge=1)
    """Distinct input-output pairs wanted of a function."""
    min_pairs: int = Field(default=2, ge=1)
    attempts: int = Field(default=1000, ge=1)
    """Generator calls at most."""
    spare: int = Field(default=4, ge=0)
    """Inputs executed beyond the pairs wanted; of all, those are kept that take new branches and give new outputs."""
    cpu_seconds: float = Field(default=5.0, gt=0)
    memory_mb: int = Field(default=1024, ge=64)
    size: SizeRules = SizeRules()
    wider: tuple[Tier, ...] = ()
    """Tiers beyond ``cpu_seconds`` and ``size`` (the tier ``standard``), each wider than the one before it: a pair that
    fits no earlier one falls into it, as its row says."""
    reject: tuple[Flag, ...] = ()
    """Flags that reject a function (``leaking``: a pair); otherwise rows carry them. ``constant``: the output never
    varies. ``trivial``: it is one of the arguments as it is. ``leaking``: the question's text shows the pair.
    ``float_noise``: half of the outputs have floats of more than nine digits."""

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """All tiers, the narrowest first."""
        return (Tier(name="standard", cpu_seconds=self.cpu_seconds, size=self.size), *self.wider)

    @property
    def most_cpu_seconds(self) -> float:
        """CPU time that the widest tier gives an execution."""
        return max(tier.cpu_seconds for tier in self.tiers)

    def size_of(self, tier: str) -> SizeRules:
        """The size rules of a tier, by its name in a row."""
        return next(each.size for each in self.tiers if each.name == tier)

    @field_validator("wider")
    @classmethod
    def _tiers_have_names_of_their_own(cls, value: tuple[Tier, ...]) -> tuple[Tier, ...]:
        names = ["standard", *(tier.name for tier in value)]
        if len(set(names)) != len(names):
            raise ValueError("each tier needs a name of its own, other than 'standard'")
        return value


Direction = Literal["output", "input", "function"]
PromptMode = Literal["question+code", "question", "code"]


class PoseSettings(Settings):
    """Which questions are asked of a pair."""

    directions: tuple[Direction, ...] = ("output", "input")
    """``output``, ``input``: predict it; ``function``: find the function from some of its pairs (induction)."""
    prompt: PromptMode = "question+code"

    @field_validator("directions")
    @classmethod
    def _some_direction(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("name each wanted direction once: output, input, function")
        return value


class TeacherSettings(Settings):
    """Who answers. The tracer needs no model; replay reads recorded answers."""

    kind: Literal["tracer", "replay"] = "tracer"
    error_rate: float = Field(default=0.0, ge=0, le=1)
    """Tracer only: share of first answers that are wrong on purpose, so that revision happens."""
    candidates: int = Field(default=1, ge=0, le=5)
    """Tracer only: wrong inputs that it tries before the right one, when an input is asked for."""
    journal: str | None = None
    """Replay only: a journal file, or a folder of them, to answer from."""

    @model_validator(mode="after")
    def _replay_needs_a_journal(self) -> TeacherSettings:
        if (self.kind == "replay") != (self.journal is not None):
            raise ValueError("'journal' belongs to kind: replay, which needs it")
        return self


class VerifySettings(Settings):
    """When two values count as equal. ``paper`` is relative 1e-3 and equal integer part."""

    equality: Literal["default", "paper"] = "default"


class ReviseSettings(Settings):
    """Turns of execution feedback after the first answer."""

    turns: int = Field(default=1, ge=0, le=5)


class Benchmark(Settings):
    """A local file with the items of a benchmark: JSON lines (also .gz, .zst), a JSON list, CSV or Parquet."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    path: str
    columns: tuple[str, ...] | None = None
    """What is compared; by default every text of an item."""


class DecontaminateSettings(Settings):
    """Overlap of the training data with benchmarks; without any there is no such stage."""

    benchmarks: tuple[Benchmark, ...] = ()
    words: int = Field(default=13, ge=1)
    """So many words in a row, punctuation, digits and white space aside, make an overlap."""
    remove: bool = False
    """Reject the rows that overlap; otherwise they carry the flag ``contaminated``."""


class AssembleSettings(Settings):
    """What a training sample is made of."""

    format: Literal["codeio", "codeio++"] = "codeio++"
    prompt: PromptMode | None = None
    """What the training prompt shows; None: what the teacher saw."""
    response: Literal["cot", "code+cot", "code"] = "cot"
    """What the model is to write: the teacher's words; the code and then these; or the code alone."""
    wrong: Literal["keep", "drop", "ground-truth"] = "keep"
    """Instances whose answer (the last one of codeio++, the first of codeio) is wrong: kept as they are, dropped
    (rejection sampling), or with the bare executed value as the response."""
    directions: tuple[Direction, ...] = ("output", "input", "function")
    fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the instances that is used, drawn by the run's seed."""
    pairs_fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of each function's pairs that is used, at least one."""
    leave_out: tuple[str, ...] = ()
    """Names of sources that are not used."""
    instructions: Literal["none", "direct-answers"] = "none"
    """Stage-2 samples: none (bring your own), or the same questions with the bare executed answer."""

    @model_validator(mode="after")
    def _code_is_not_shown_and_asked_for(self) -> AssembleSettings:
        if self.response != "cot" and self.prompt != "question":
            raise ValueError(
                f"response: {self.response} asks for the code: set prompt: question, which does not show it"
            )
        return self


class TokeniseSettings(Settings):
    """Tokens and packing."""

    max_tokens: int | None = Field(default=None, ge=32)
    """Length of a packed sequence, if it is to be less than the recipe says for the training stage; longer samples are
    rejected, never cut."""
    loss_on: Literal["assistant", "last", "full"] = "assistant"
    """What is trained of a conversation: every assistant turn, the last one, or all of it. Of plain text, all."""


class SandboxSettings(Settings):
    """What isolation untrusted code must have."""

    minimum: IsolationLevel = "landlock+seccomp"


class EvaluateSettings(Settings):
    """I/O prediction on the held-out functions of the run."""

    max_instances: int = Field(default=600, ge=1)
    max_new_tokens: int = Field(default=64, ge=1)


class LaunchSettings(Settings):
    """How the work is carried out. Never changes what is built, so it is not part of a run's identity."""

    workers: int = Field(default=1, ge=0)
    """Local worker processes; 0 runs everything in this process."""
    attempts: int = Field(default=3, ge=1)
    """Starts that a failing shard gets before the build stops."""
    task_lasts: Minutes = Field(default=30, validate_default=False)
    """How long a SLURM task should take, by what its shards are measured to cost. Many sites ask for half an hour."""
    task_time: Minutes = Field(default=60, validate_default=False)
    """Time limit of one SLURM task; the site's ``resources.cpu.time`` if that is less. What does not fit is done by a
    later one."""
    tasks: int = Field(default=4, ge=1)
    """Array elements that the shards of a step are spread over at least, however little there is to do."""
    shard_seconds: float = Field(default=10.0, gt=0)
    """What a shard is assumed to take until some of its step were measured."""
    reuse: tuple[str, ...] = ()
    """Folders of earlier runs: what they made of the same rows with the same settings is taken over, not made again."""


class RunConfig(Settings):
    """Everything that decides what a run builds."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 0
    sources: tuple[Source, ...] = ()
    """Raw code, from which samples are made."""
    samples: tuple[SampleSource, ...] = ()
    """Or finished samples, in place of raw code."""
    recipe: str | None = None
    """The training recipe (a file of configs/models/); names the tokenizer and chat template too."""
    stage2_from: str | None = None
    """A model folder that another run has published (RUN/models/stage1): stage 2 starts from it. None: from this run's
    stage 1; where no sample is for that, from the recipe's model."""
    sandbox: SandboxSettings = SandboxSettings()
    imports: ImportSettings = ImportSettings()
    collect: CollectSettings = CollectSettings()
    transform: TransformSettings = TransformSettings()
    split: SplitSettings = SplitSettings()
    sample: SampleSettings = SampleSettings()
    pose: PoseSettings = PoseSettings()
    teacher: TeacherSettings = TeacherSettings()
    verify: VerifySettings = VerifySettings()
    revise: ReviseSettings = ReviseSettings()
    decontaminate: DecontaminateSettings = DecontaminateSettings()
    assemble: AssembleSettings = AssembleSettings()
    tokenise: TokeniseSettings = TokeniseSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    launch: LaunchSettings = LaunchSettings()

    @field_validator("sources", "samples")
    @classmethod
    def _distinct_names(cls, value: tuple[Named, ...]) -> tuple[Named, ...]:
        names = [source.name for source in value]
        if len(set(names)) != len(names):
            raise ValueError("two sources have the same name")
        return value

    @model_validator(mode="after")
    def _one_kind_of_sources(self) -> RunConfig:
        if not self.sources and not self.samples:
            raise ValueError("nothing to build from: name 'sources' of raw code, or 'samples'")
        if self.sources and self.samples:
            raise ValueError(
                "a run has 'sources' of raw code or 'samples', not both: build the code into a run of its own, and name"
                " it among the samples of this one ({name: code, run: FOLDER})"
            )
        return self

    @model_validator(mode="after")
    def _known_sources_are_left_out(self) -> RunConfig:
        names = [source.name for source in self.sources]
        for name in self.assemble.leave_out:
            if name not in names:
                raise ValueError(f"assemble.leave_out names '{name}', but the sources are: {', '.join(names)}")
        return self

    @property
    def rows_per_shard(self) -> int:
        """Raw files, or finished samples, that make one shard."""
        return self.imports.samples_per_shard if self.samples else self.collect.files_per_shard

    def identity(self) -> dict[str, Any]:
        """The settings that decide what is built, as plain JSON data."""
        return self.model_dump(mode="json", exclude={"launch"})


def settings_hash(settings: object) -> str:
    """SHA-256 (hex) of plain JSON data, independent of key order."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
