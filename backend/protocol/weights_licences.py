# SPDX-License-Identifier: GPL-3.0-or-later
"""What the weights' licenses ask for, and that the user agreed, written down beside the weights.

An engineering reading, not legal advice: the text behind the link counts.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .errors import ProtocolError
from .weights_records import read_table, write_table
from .weights_registry import COMPONENTS

_MANIFEST = Path(__file__).parents[2] / "blender_manifest.toml"


@dataclass(frozen=True)
class Licence:
    """The terms of some components.

    Attributes:
        summary: two lines.
        statements: what the user says by accepting.
        notice: the line that has to go along with the files; empty if none is prescribed.
    """

    id: str
    title: str
    link: str
    summary: tuple[str, str]
    statements: tuple[str, ...]
    notice: str = ""

    @property
    def terms(self) -> str:
        """Everything that is shown before acceptance, a line each."""
        return "\n".join(
            (self.title, self.link, *self.summary, *self.statements, *filter(None, [self.notice]))
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the terms: whoever accepted others is asked again."""
        return hashlib.sha256(self.terms.encode()).hexdigest()


_ALL = (
    Licence(
        "sana_wm",
        "SANA-WM, Apache License 2.0",
        "https://huggingface.co/Efficient-Large-Model/SANA-WM_bidirectional",
        (
            "Published by NVIDIA under Apache-2.0: free to use, also commercially, with its notices.",
            "Some training data was marked non-commercial, and LTX-2's license may reach these weights too.",
        ),
        ("I have read the model card and decide for myself whether these weights suit my use.",),
    ),
    Licence(
        "ltx2",
        "LTX-2 Community License",
        "https://github.com/Lightricks/LTX-2/blob/main/LICENSE-2",
        (
            "Free below USD 10 million of revenue a year, affiliates included; above, a paid license is needed.",
            "Clips must be disclosed as machine-generated; uses such as deepfakes or military ones are forbidden.",
        ),
        (
            "My organization and its affiliates earn less than USD 10 million a year, or have a paid license.",
            "I will disclose that clips are machine-generated, and keep to the use restrictions of Attachment A.",
        ),
    ),
    Licence(
        "gemma",
        "Gemma Terms of Use",
        "https://ai.google.dev/gemma/terms",
        (
            "Free to use, also commercially, within Google's Prohibited Use Policy.",
            "Whoever passes the files on passes on the terms and the notice, and marks what was changed.",
        ),
        ("I keep to the policy at https://ai.google.dev/gemma/prohibited_use_policy.",),
        "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
    ),
)
LICENCES: dict[str, Licence] = {licence.id: licence for licence in _ALL}


def accept(root: Path, ids: Iterable[str]) -> None:
    """Write to `root`/licences.json that the user agreed to these terms as they are shown now.

    Raises:
        ProtocolError: a license is unknown, or the record is damaged.
        OSError: the record cannot be written.
    """
    ids = list(ids)
    unknown = sorted(set(ids) - set(LICENCES))
    if unknown:
        raise ProtocolError(f"There is no license {', '.join(unknown)}; there are {', '.join(LICENCES)}.")
    accepted = _accepted(root)
    version = tomllib.loads(_MANIFEST.read_text(encoding="utf-8"))["version"]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for id in ids:
        accepted[id] = {"terms_sha256": LICENCES[id].digest, "accepted": now, "sana_wm": version}
    root.mkdir(parents=True, exist_ok=True)
    write_table(root / "licences.json", "accepted", accepted)


def is_accepted(root: Path, id: str) -> bool:
    """Whether the terms were accepted as they are shown now."""
    return _accepted(root).get(id, {}).get("terms_sha256") == LICENCES[id].digest


def unaccepted(root: Path, component_ids: Iterable[str]) -> list[Licence]:
    """The licenses of these components that were not accepted yet."""
    ids = dict.fromkeys(COMPONENTS[id].licence for id in component_ids)
    return [LICENCES[id] for id in ids if not is_accepted(root, id)]


def _accepted(root: Path) -> dict[str, dict[str, str]]:
    path, remedy = root / "licences.json", "remove it and accept the licenses again"
    accepted = read_table(path, "accepted", remedy)
    if not all(isinstance(entry, dict) for entry in accepted.values()):
        raise ProtocolError(f"{path} is damaged; {remedy}.")
    return accepted
