"""Where our classes differ from the recorded surface of transformers 4.57.6, and the reasons given for it.

    python -m tests.surface.compare                  list the differences that have no reason yet
    python -m tests.surface.compare --record FILE    keep what walk.py printed with transformers installed
    python -m tests.surface.compare --docs           write the table into docs/differences.md

A difference is named "member" (ours lacks it), "member(parameter)" (ours does not accept it) or "member(parameter=)"
(its default differs). Its reason is in the `.toml` file of its family in this folder, under `other` (on purpose, with
the way to do the same here) or `none` (it has no meaning here); a key may list several differences.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "differences.md"
BEGIN, END = "<!-- surface: written by tests/surface/compare.py -->", "<!-- surface: end -->"

FAMILIES = {
    "config": "configs, `GenerationConfig`",
    "tokenizer": "tokenizers, `BatchEncoding`",
    "pytorch": "PyTorch",
    "tensorflow": "TensorFlow",
    "flax": "Flax",
}
VERDICTS = {"other": "other on purpose", "none": "no meaning here"}


def family_of(cls: str) -> str:
    """The family a class belongs to."""
    if cls.endswith("Config"):
        return "config"
    if "Tokenizer" in cls or cls == "BatchEncoding":
        return "tokenizer"
    return "tensorflow" if cls.startswith("TF") else "flax" if cls.startswith("Flax") else "pytorch"


def packed(surface: dict[str, Any]) -> dict[str, Any]:
    """Map each family to the members that all its classes share, and each class to its other members.

    Of CamemBERT's and XLM-RoBERTa's classes, those that differ from RoBERTa's class: null is one that it has alone.
    """
    result: dict[str, Any] = {}
    for family in FAMILIES:
        classes = {cls: members for cls, members in surface.items() if family_of(cls) == family}
        first, *others = classes.values()
        common = {name: what for name, what in first.items() if all(other.get(name) == what for other in others)}
        result[family] = common
        result |= {cls: {n: w for n, w in members.items() if n not in common} for cls, members in classes.items()}
    plain = {cls: result[cls] for cls in surface}
    for cls in surface:
        if robertas(cls) != cls:
            own, roberta = plain[cls], plain[robertas(cls)]
            result[cls] = {name: own.get(name) for name in own | roberta if own.get(name) != roberta.get(name)}
    return result


def robertas(cls: str) -> str:
    """RoBERTa's class of the same framework and head."""
    return cls.replace("XLMRoberta", "Roberta").replace("Camembert", "Roberta")


def recorded() -> dict[str, dict[str, Any]]:
    """The recorded surface of transformers: class -> member -> its description."""
    kept = json.loads((HERE / "transformers.json").read_text(encoding="utf-8"))
    result = {}
    for cls, own in kept.items():
        if cls not in FAMILIES:
            roberta = kept[robertas(cls)] if robertas(cls) != cls else {}
            members = {**kept[family_of(cls)], **roberta, **own}
            result[cls] = {name: what for name, what in members.items() if what is not None}
    return result


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    """The differences of one class, by name."""
    for member, what in theirs.items():
        if member not in ours:
            yield member
            continue
        takes = ours[member].get("parameters", {})
        for parameter, default in what.get("parameters", {}).items():
            if default in ("*", "**"):
                if default not in takes.values():
                    yield f"{member}({default})"
            elif parameter not in takes:
                yield f"{member}({parameter})"
            elif default != takes[parameter]:
                yield f"{member}({parameter}=)"


def all_differences(ours: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Family -> difference -> the classes that have it."""
    found: dict[str, dict[str, list[str]]] = {family: {} for family in FAMILIES}
    for cls, members in recorded().items():
        for name in differences(ours.get(cls, {}), members):
            found[family_of(cls)].setdefault(name, []).append(cls)
    return found


def reasons(family: str) -> dict[str, tuple[str, str]]:
    """Difference -> (verdict, reason) of a family."""
    tables = tomllib.loads((HERE / f"{family}.toml").read_text(encoding="utf-8"))
    return {
        name.strip(): (verdict, reason)
        for verdict, rows in tables.items()
        for names, reason in rows.items()
        for name in names.split(",")
    }


def counts(ours: dict[str, dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """Family -> (members and parameters of its classes, those that differ)."""
    found = all_differences(ours)
    total = dict.fromkeys(FAMILIES, 0)
    for cls, members in recorded().items():
        total[family_of(cls)] += sum(1 + len(what.get("parameters", {})) for what in members.values())
    return {family: (total[family], sum(len(c) for c in found[family].values())) for family in FAMILIES}


def table(ours: dict[str, dict[str, Any]]) -> str:
    """The section of docs/differences.md."""
    lines = [
        "A script walks every public member of transformers 4.57.6's classes (configs and models of RoBERTa, CamemBERT and",
        "XLM-RoBERTa in three frameworks, RoBERTa's tokenizers, `BatchEncoding`) and every parameter with its default. All",
        "are the same here, except for these rows. `name(parameter)` is not a parameter here; `name(parameter=)` has a",
        "different default.",
        "",
        "| family | walked | differ |",
        "| --- | ---: | ---: |",
    ]
    lines += [f"| {FAMILIES[family]} | {total:,} | {differ:,} |" for family, (total, differ) in counts(ours).items()]
    lines += ["", "| family | name | verdict | here |", "| --- | --- | --- | --- |"]
    for family in FAMILIES:
        tables = tomllib.loads((HERE / f"{family}.toml").read_text(encoding="utf-8"))
        for verdict, rows in tables.items():
            for names, reason in rows.items():
                shown = ", ".join(f"`{name.strip()}`" for name in names.split(","))
                lines.append(f"| {FAMILIES[family]} | {shown} | {VERDICTS[verdict]} | {reason} |")
    return "\n".join(lines)


def page(text: str, section: str) -> str:
    """Replace the section between the marks of the page."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{section}\n\n{END}{after}"


def main() -> None:
    """Compare, record, or write the page."""
    import roberta
    from tests.surface.walk import surface

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--docs", action="store_true")
    options = parser.parse_args()
    if options.record:
        kept = packed(json.loads(options.record.read_text(encoding="utf-8")))
        (HERE / "transformers.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return
    ours = surface(roberta)
    if options.docs:
        DOCS.write_text(page(DOCS.read_text(encoding="utf-8"), table(ours)), encoding="utf-8")
        return
    for family, found in all_differences(ours).items():
        given = reasons(family)
        missing = {name: classes for name, classes in found.items() if name not in given}
        print(f"{family}: {len(missing)} of {len(found)} differences without a reason")
        for name, classes in missing.items():
            print(f"    {name:60s} {len(classes)}: {classes[0]}")


if __name__ == "__main__":
    main()
