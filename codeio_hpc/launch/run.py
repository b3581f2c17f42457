"""A run folder: created once, opened by everything that works on it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from codeio_hpc import __version__
from codeio_hpc.config import RunConfig, load_yaml, parse, settings_hash
from codeio_hpc.config.run import LaunchSettings, Source
from codeio_hpc.config.samples import SampleSource
from codeio_hpc.config.tokenizer import tokenizer_folder
from codeio_hpc.errors import UserError
from codeio_hpc.launch.sites.files import find_file
from codeio_hpc.tables import Identity, Row
from codeio_hpc.tables.manifest import Manifest, create_manifest, differing_keys, read_manifest
from codeio_hpc.tables.schemas import SOURCES
from codeio_hpc.tables.shards import part_path, publish_shard, read_footer

SOURCES_STAGE = "00-sources"

LAUNCH = "launch.json"
"""The launch settings of the last `codeio build`, where they are not those in run.json."""


@dataclass(frozen=True)
class Run:
    """One run folder and the configuration frozen in it."""

    folder: Path
    config: RunConfig
    shards: int

    @property
    def stages(self) -> Path:
        """Folder of the published shards, one sub-folder a stage."""
        return self.folder / "stages"


def open_run(folder: Path) -> Run:
    """Open an existing run, with the launch settings that it was last built with.

    Raises:
        UserError: there is no run in that folder, or its run.json cannot be understood.
    """
    manifest = _manifest_of(folder)
    if manifest is None:
        raise UserError(f"{folder}: no run.json in it", "it is not a run folder", _runs_nearby(folder))
    config = parse(RunConfig, manifest.config, f"{folder}/run.json")
    return Run(folder=folder.resolve(), config=_with_last_launch(folder, config), shards=manifest.shards)


def _manifest_of(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}/run.json: {error}",
            "it is not the manifest of a run",
            "restore the file, or build into a new folder",
        ) from None


def _with_last_launch(folder: Path, config: RunConfig) -> RunConfig:
    path = folder / LAUNCH
    if not path.exists():
        return config
    launch = parse(LaunchSettings, load_yaml(path), str(path))
    return config.model_copy(update={"launch": launch})


def _runs_nearby(folder: Path) -> str:
    around = folder.parent if folder.parent.is_dir() else Path(".")
    runs = sorted(str(entry.parent) for entry in around.glob("*/run.json"))
    return f"runs there: {', '.join(runs[:5])}" if runs else "name a run's folder, or make one: codeio build CONFIG"


def create_or_open_run(
    folder: Path,
    config: RunConfig,
    sources: Iterable[Row] | None = None,
    listed: Callable[[int], None] = lambda rows: None,
    say: Callable[[str], None] = lambda text: None,
) -> Run:
    """The run of this configuration in ``folder``; created if it is not there.

    ``sources`` is the list of raw files or samples; by default what the configuration's sources hold now. It is read
    only when the run is created: a run's input is frozen with it. ``listed`` is told how many there are so far, ``say``
    what was found out about them. The launch settings hold from now on, also for tasks and the jobs that steer on; they
    decide nothing of what is built.

    Raises:
        UserError: the folder holds a run of another configuration or code version (the keys are named).
    """
    run = open_run_of(folder, config)
    if run is None:
        config = with_absolute_paths(config)
        if sources is None:
            from codeio_hpc.stages.registry import list_rows

            sources = list_rows(config, say)
        _create(folder, config, sources, listed)
        run = open_run_of(folder, config)
        assert run is not None
    if run.config.launch != open_run(folder).config.launch:
        write_json(run.folder / LAUNCH, run.config.launch.model_dump(mode="json"))
    return run


def open_run_of(folder: Path, config: RunConfig) -> Run | None:
    """The run of this configuration in ``folder``, with its launch settings; None if there is no run. Writes nothing.

    Raises:
        UserError: the folder holds a run of another configuration or code version (the keys are named).
    """
    config = with_absolute_paths(config)
    manifest = _manifest_of(folder)
    if manifest is not None:
        _refuse_other_run(folder, config, manifest)
        return Run(folder.resolve(), config, manifest.shards)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file", "a run is a folder", "name another folder with --run DIR")
    return None


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """The configuration with what its relative paths mean now (:func:`codeio_hpc.launch.sites.files.find_file`): later
    commands may start anywhere."""

    def absolute(path: str | None) -> str | None:
        return None if path is None else os.path.abspath(find_file(path))

    def dataset(name: str | None) -> str | None:
        return absolute(name) if name is not None and find_file(name).is_dir() else name

    sources = tuple(
        source.model_copy(update={"path": absolute(source.path), "dataset": dataset(source.dataset)})
        for source in config.sources
    )
    samples = tuple(
        each.model_copy(
            update={"path": absolute(each.path), "dataset": dataset(each.dataset), "run": absolute(each.run)}
        )
        for each in config.samples
    )
    teacher = config.teacher.model_copy(update={"journal": absolute(config.teacher.journal)})
    benchmarks = tuple(
        each.model_copy(update={"path": absolute(each.path)}) for each in config.decontaminate.benchmarks
    )
    changed = {
        "sources": sources,
        "samples": samples,
        "teacher": teacher,
        "recipe": absolute(config.recipe),
        "stage2_from": absolute(config.stage2_from),
        "launch": config.launch.model_copy(
            update={"reuse": tuple(os.path.abspath(find_file(each)) for each in config.launch.reuse)}
        ),
        "decontaminate": config.decontaminate.model_copy(update={"benchmarks": benchmarks}),
    }
    return config.model_copy(update=changed)


def _create(folder: Path, config: RunConfig, sources: Iterable[Row], tell: Callable[[int], None]) -> None:
    size, remaining = config.rows_per_shard, iter(sources)
    shards = iter(lambda: list(islice(remaining, size)), [])
    listed = folder / "stages" / SOURCES_STAGE
    try:
        checksums = []
        for number, rows in enumerate(shards):
            # what an interrupted creation left behind is kept where it lists the same files
            footer = publish_shard(listed, source_identity(number), rows, [], replace=True)
            assert footer is not None
            checksums.append(footer.checksum)
            tell(number * size + len(rows))
    except UserError:  # a source that is wrong further on: nothing stays half-written
        shutil.rmtree(listed, ignore_errors=True)
        with suppress(OSError):  # not empty: not ours
            listed.parent.rmdir()
            folder.rmdir()
        raise
    manifest = Manifest(
        config=config.model_dump(mode="json"),
        identity=settings_hash(config.identity()),
        code_version=__version__,
        shards=len(checksums),
        sources=settings_hash(checksums),
    )
    with suppress(FileExistsError):  # another command was first; its run is opened then
        create_manifest(folder, manifest)


def refuse_other_code(run: Run) -> None:
    """To be called by whatever is about to add to a run.

    Raises:
        UserError: another version of the code began it.
    """
    manifest = _manifest_of(run.folder)
    if manifest is not None and manifest.code_version != __version__:
        raise UserError(
            f"{run.folder} was begun by version {manifest.code_version} of the code; this is {__version__}",
            "a run is built with one version of the code from start to end",
            "continue with that version, or build into another folder",
        )


def _refuse_other_run(folder: Path, config: RunConfig, manifest: Manifest) -> None:
    theirs = parse(RunConfig, manifest.config, f"{folder}/run.json").identity()
    ours = config.identity()
    keys = list(differing_keys(ours, theirs))
    if manifest.code_version != __version__:
        keys.append("code_version")
    if keys:
        raise UserError(
            f"{folder} holds a run that differs in: {', '.join(keys)}",
            "a run is built with one configuration and one version of the code from start to end",
            "give the original values, or another folder with --run DIR",
        )


def source_identity(shard: int) -> Identity:
    """Identity of a shard of the source list."""
    return Identity(SOURCES, SOURCES_STAGE, 2, "", "", shard)


def source_rows(run: Run) -> int:
    """Number of raw files, or finished samples, in the run's frozen list."""
    footers = (read_footer(part_path(run.stages / SOURCES_STAGE, shard)) for shard in range(run.shards))
    return sum(footer.rows for footer in footers if footer)


def point_latest(run: Run) -> None:
    """Let ``latest`` beside the run folder point to it, so that batch scripts need no argument."""
    link = run.folder.parent / "latest"
    if link.exists() and not link.is_symlink():
        return
    temporary = link.with_name(f".latest.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    os.symlink(run.folder.name, temporary)
    os.replace(temporary, link)


def folders_of(run: Run) -> list[Path]:
    """Folders that a task has to see: the run's own, and those of everything that its configuration names."""
    from codeio_hpc.stages.sample_origin import file_source

    config = run.config
    sources: tuple[Source | SampleSource, ...] = (*config.sources, *config.samples)
    named: list[str | None] = [source.path for source in config.sources]
    named += [file_source(source).path for source in config.samples if source.path is not None]
    named += [source.dataset for source in sources if source.dataset and Path(source.dataset).is_dir()]
    named += [source.run for source in config.samples]
    named += [config.teacher.journal, config.recipe, config.stage2_from]
    named += [*(each.path for each in config.decontaminate.benchmarks)]
    if config.recipe is not None:
        named.append(str(tokenizer_folder(Path(config.recipe))))
    paths = [Path(each) for each in (*named, *config.launch.reuse) if each is not None]
    return list(dict.fromkeys([run.folder, *(path if path.is_dir() else path.parent for path in paths)]))


def folder_tag(run: Run) -> str:
    """A few letters that tell runs in different folders apart, for names of jobs."""
    return hashlib.sha256(str(run.folder).encode("utf-8", "surrogateescape")).hexdigest()[:6]


def write_json(path: Path, data: object) -> None:
    """Publish JSON data for people and programs to read."""
    from codeio_hpc.tables.files import publish_file

    publish_file(path, (json.dumps(data, indent=1, sort_keys=True) + "\n").encode("utf-8"))
