"""Sources of finished samples: files of conversations, prompts with answers or plain text, and the samples of runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from codeio_hpc.config.load import Settings

TrainingStage = Literal["stage1", "stage2", "rft"]
SampleFormat = Literal["chat", "prompt", "text"]


class SampleColumns(Settings):
    """Which columns (keys of JSON objects) of a record hold what; None: the first of the usual names that is there."""

    messages: str | None = None
    """Of chat: a list of ``{"role", "content"}``, or of ``{"from", "value"}``."""
    prompt: str | None = None
    """Of prompt: what is asked, text or a list of messages."""
    input: str | None = None
    """Of prompt: further text that is put below what is asked, where the record has any."""
    response: str | None = None
    """Of prompt: what the model is to answer, text or a list of messages."""
    system: str | None = None
    """Of chat and prompt: a system message, where the record has any."""
    text: str | None = None
    """Of text: the whole document."""
    licence: str | None = None
    """Its licence; the source's where the column is empty."""

    @property
    def form(self) -> SampleFormat | None:
        """What the columns that are named belong to; None if they do not tell."""
        if self.messages is not None:
            return "chat"
        if self.prompt is not None or self.response is not None:
            return "prompt"
        return "text" if self.text is not None else None


class SampleSource(Settings):
    """Where samples come from: exactly one of path, dataset, run.

    Files of records are JSON lines (``.jsonl``, ``.jsonl.gz``, ``.jsonl.zst``), JSON lists (``.json``) and Parquet. A
    ``.txt`` or ``.py`` file is one document of plain text; with ``format: text`` so is any other file.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    path: str | None = None
    """A file, a folder of record files, or a pattern (``data/**/*.jsonl``); relative to the working directory."""
    dataset: str | None = None
    """A Hugging Face dataset: a folder made by ``save_to_disk``, or its name on the hub."""
    split: str = "train"
    """Which split of the dataset."""
    run: str | None = None
    """The folder of a complete run, whose samples are taken as they are."""
    only: TrainingStage | None = None
    """Of a run: the samples of this training stage only."""
    format: SampleFormat | None = None
    """None: what the names of the columns tell."""
    columns: SampleColumns = SampleColumns()
    licence: str = "unknown"
    training_stage: TrainingStage | None = None
    """In which the samples are trained; None: stage2, and for the samples of a run, their own."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """How often each sample is trained in an epoch: 0.5 is a half of them, drawn by the run's seed; 2.3 all of them
    twice and 30 % once more."""

    @model_validator(mode="after")
    def _fits_together(self) -> SampleSource:
        if sum(origin is not None for origin in (self.path, self.dataset, self.run)) != 1:
            raise ValueError("a source of samples has exactly one of path, dataset and run")
        if self.run is None and self.only is not None:
            raise ValueError("'only' chooses among the samples of a run")
        if self.run is not None and (self.format is not None or self.columns != SampleColumns()):
            raise ValueError("the samples of a run have their format: leave out format and columns")
        if self.format is not None and self.columns.form not in (None, self.format):
            raise ValueError(f"the named columns are of format {self.columns.form}, not {self.format}")
        return self


class ImportSettings(Settings):
    """How samples are taken in."""

    samples_per_shard: int = Field(default=10_000, ge=1)
    """Samples are packed shard by shard: few in a shard leave more room unused."""
    licences: tuple[str, ...] | None = None
    """Licences that are wanted, as the sources name them; samples under any other are rejected. None: all."""
    near_duplicates: float | None = Field(default=None, ge=0.5, le=1)
    """Samples whose similarity to an earlier one is at least this are rejected, as for ``collect``. None: only those
    with the same text, white space at the ends of lines aside."""
