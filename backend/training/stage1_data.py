# SPDX-License-Identifier: GPL-3.0-or-later
"""The data that a configuration of stage 1 names: datasets of shards, or the embedded model's rendered clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..data.shards import INFO_NAME, ShardReader
from ..protocol import atomic
from ..protocol.records import from_record
from .batch import ClipSource
from .embedded_clips import EmbeddedClips
from .prompts import ClipPrompts
from .rendered_latents import RenderedLatents
from .shard_clips import DataRecord, ShardClips
from .stage1_config import Stage1Run
from .trajectories import TrajectoryClips

RECORD = "data.json"


@dataclass(frozen=True)
class Data:
    """What is trained on, and what is held out.

    Attributes:
        record: of the clips that are trained on, where they are of a dataset.
        prompts, captions: what has to be encoded before the first step.
    """

    train: ClipSource
    heldout: ClipSource
    record: DataRecord | None = None
    prompts: ClipPrompts | None = None
    captions: tuple[str, ...] = ()

    def prepared(self, folder: Path, device: str, is_first: bool = True) -> Iterator[str]:
        """Before the first step of a run in this folder, or before it goes on.

        Raises:
            ValueError: the run was begun on other clips, or its prompts cannot be encoded.
        """
        if self.record is not None:
            _keep(folder / RECORD, self.record, is_first)
        if self.prompts is not None:
            yield from self.prompts.encode_missing(self.captions, device)


def data_of(config: Stage1Run) -> Data:
    """The data that the configuration names.

    Raises:
        ValueError: there is none, or too little.
    """
    folder = Path(config.data)
    if (folder / INFO_NAME).exists() and not config.model.embedded:
        return _of_shards(config, folder)
    if config.heldout:
        raise ValueError(f"heldout goes with a dataset as data, and {folder} has no {INFO_NAME}.")
    if config.model.embedded:
        parts = {part: EmbeddedClips(folder / part / "coarse") for part in ("train", "heldout")}
    else:
        parts = {part: RenderedLatents(folder / part / "clips") for part in ("train", "heldout")}
    empty = [part for part, source in parts.items() if not len(source)]
    if empty:
        raise ValueError(
            f"There are no clips in {folder / empty[0]}, and {folder} is no dataset; make one with python -m backend "
            "data, or name another folder as data."
        )
    return Data(**parts)


def with_trajectories(data: Data, config: Stage1Run) -> Data:
    """The same clips with the teacher's snapshots.

    Raises:
        ValueError: some are missing, or were made for other steps.
    """
    sources = {
        part: TrajectoryClips(getattr(data, part), trajectories(config, part), config.recipe.step_list)
        for part in ("train", "heldout")
    }
    return replace(data, **sources)


def trajectories(config: Stage1Run, part: str) -> Path:
    """The folder with the teacher's trajectories of one part."""
    return Path(config.folder) / "trajectories" / part


def _of_shards(config: Stage1Run, folder: Path) -> Data:
    prompts = ClipPrompts(Path(config.weights), Path(config.folder)) if config.weights else None
    reader = ShardReader(folder)
    if config.heldout:
        kept = ShardReader(Path(config.heldout))
        chosen, held = range(len(reader)), range(len(kept))
    else:
        # The first ones, which are the same in a dataset that has grown.
        kept, held = reader, range(min(config.figure_clips, len(reader)))
        chosen = range(len(held), len(reader))
    if not chosen or not held:
        raise ValueError(
            f"Of the {len(reader)} clips in {folder} {len(held)} are held out and {len(chosen)} left to train on; make "
            "more, lower figure_clips, or name another dataset as heldout."
        )
    train, heldout = ShardClips(reader, chosen, prompts), ShardClips(kept, held, prompts)
    if _units(train.record) != _units(heldout.record):
        raise ValueError(
            f"{folder} has clips of {_units(train.record)} and {config.heldout} of {_units(heldout.record)} (codec, "
            "its SHA-256, size, frames); name two datasets that were made with the same settings."
        )
    return Data(
        train, heldout, train.record, prompts, tuple(dict.fromkeys(train.captions() + heldout.captions()))
    )


def _units(record: DataRecord) -> tuple[str, str, tuple[int, int], int]:
    return record.codec, record.codec_sha256[:8], record.size, record.frames


def _keep(path: Path, record: DataRecord, is_first: bool) -> None:
    if path.exists():
        there = asdict(from_record(DataRecord, atomic.read_json(path), str(path)))
        here = asdict(record)
        different = [name for name in here if there[name] != here[name]]
        if different:
            listed = "; ".join(f"{name} was {there[name]} and is {here[name]}" for name in different)
            raise ValueError(
                f"The run in {path.parent} was begun on other clips ({listed}); name its data again, or another folder "
                "for the run, which may start from the weights of this one."
            )
    elif is_first:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(path, asdict(record))
