"""The question of a study, and the arms that answer it."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trm_jax.core.config import Config
from trm_jax.core.task import Task, override, run_options
from trm_jax.study.results.published import Paper
from trm_jax.support.files import refuse_path
from trm_jax.support.schema import did_you_mean, parse_options

Options = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """A question, the arms that answer it (options on top of the base), and options for all of them."""

    question: str
    arms: dict[str, Options]
    base: Options = field(default_factory=dict)
    reference: str = "full"
    name: str = "study"
    paper: Paper | None = None
    """What was published about arms of these names, to set beside the results."""
    rule: str = ""
    """What will count as an answer, in sentences written before the first run."""


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    task: Task
    config: Config

    @property
    def options(self) -> dict[str, Any]:
        """All options by section, as JSON knows them."""
        return json.loads(json.dumps(run_options(self.task, self.config)))


def build_arms(
    study: Study,
    task: Task,
    common: Mapping[str, Any],
    names: Sequence[str] = (),
    added: Sequence[str] = (),
) -> dict[str, Arm]:
    """The arms to train by name, the reference arm first.

    ``common`` are options of all arms. ``names`` chooses among the arms of the study; ``added`` are arms of the user,
    each "NAME: option=value ...". Raises ValueError for an unknown arm or option.
    """
    extra = {}
    for text in added:
        title, colon, words = text.partition(":")
        if not colon or not title.strip():
            raise ValueError(f'an arm is "NAME: option=value ...", got {text!r}')
        extra[refuse_path(title.strip(), "the arm")] = parse_options(words.split())
    known = study.arms | extra
    check_names(study, names, known)
    chosen = dict.fromkeys([study.reference, *(names or study.arms), *extra])
    return {arm: Arm(*override(task, Config(), study.base | dict(common) | known[arm])) for arm in chosen}


def check_names(study: Study, names: Sequence[str], known: Collection[str]) -> None:
    """Raise ValueError for names that are not among the known arms of a study."""
    unknown = [arm for arm in names if arm not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise ValueError(f"unknown arm {', '.join(unknown)}{hint}; the study {study.name} has {', '.join(known)}")


def overview(studies: Mapping[str, Study], presets: Mapping[str, Options]) -> str:
    """Every study with its question and arms, and every preset with what it sets."""
    lines = []
    for name, study in studies.items():
        lines.append(f"{name}: {study.question}")
        lines += [f"    {arm:24}{_words(options) or 'the reference'}" for arm, options in study.arms.items()]
    lines += [f"preset {name}: {_words(options) or 'nothing: the defaults'}" for name, options in presets.items()]
    return "\n".join(lines)


def _words(options: Options) -> str:
    return " ".join(f"{name}={json.dumps(value, separators=(',', ':'))}" for name, value in options.items())
