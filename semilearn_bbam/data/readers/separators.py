"""What separates the labels in one field: decided over the whole column, never in silence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.readers.tables import brief

ONE_LABEL = "none"  # of `label_separator`: a field is one label
USUAL = "[;|]"  # these are always separators
# What may separate labels or belong to a name; those of the first group seldom belong to one.
STRICT = (",", "#", "\t", "\n", "，", "、")
LOOSE = ("/", "+", "&", " ")
NAMES = {" ": "blanks", ",": "commas", "\t": "tabs", "\n": "line breaks"}


@dataclass(frozen=True)
class Separator:
    """A pattern that splits a field, "" for none, and what was decided, in words ("" where nothing was)."""

    pattern: str
    note: str = ""

    def split(self, field: str) -> list[str]:
        """The names in one field, without blanks around them and without empty ones."""
        parts = re.split(self.pattern, field) if self.pattern else [field]
        return [part.strip() for part in parts if part.strip()]


def given_separator(separator: str, fields: Sequence[str], where: str) -> Separator:
    """The separator of `label_separator`; DataError where it occurs in no field although another may be one there."""
    if separator == ONE_LABEL:
        return Separator("")
    if not any(separator in field for field in fields):
        whole = list(dict.fromkeys(field.strip() for field in fields))
        for sign in (";", "|", *STRICT, *LOOSE):
            if _reading(sign, whole, ()) != "names":
                example = next(field for field in whole if sign in field)
                raise DataError(
                    f"label_separator: {brief(separator)} is in no field of {where}, which are such as "
                    f"{brief(example)}; did you mean {brief(sign)}, or label_separator: {ONE_LABEL}?"
                )
        return Separator(re.escape(separator), f"{brief(separator)} is in no field, so that each is one label")
    return Separator(re.escape(separator))


def find_separator(fields: Sequence[str], known: Collection[str], where: str) -> Separator:
    """What separates labels in these fields, each of which is not empty.

    `;` and `|` always do. Another sign does where all labels between it are in `known` (the names of a `label_file`),
    or where each of them occurs in several fields (for a blank, / and the like most of them alone too). It is part of
    names where the whole fields are known, or hardly any of its parts occurs elsewhere. DataError, with both readings,
    where neither is clear.
    """
    usual = Separator(USUAL) if any(re.search(USUAL, field) for field in fields) else Separator("")
    whole = list(dict.fromkeys(name for field in fields for name in usual.split(field)))
    if known and all(name in known or name.isdecimal() for name in whole):
        return Separator(USUAL)
    decided: list[Separator] = []
    for sign in (*STRICT, *LOOSE):
        multiple = [name for name in whole if sign in name]
        if not multiple or (usual.pattern and sign in LOOSE):  # names between ; or | may have blanks
            continue
        reading = _reading(sign, whole, known)
        if reading == "names" and not usual.pattern:
            decided.append(Separator("", f"{brief(multiple[0])} is read as one label, {_named(sign)} included"))
        if reading == "separator" and not usual.pattern:
            return Separator(re.escape(sign), f"labels are separated by {_named(sign)}, as in {brief(multiple[0])}")
        if reading != "names":
            raise DataError(
                f"{where}: {brief(multiple[0])} may be one label or several, separated by {_named(sign)}"
                f"{' as well as by ; or |' if usual.pattern else ''}; set label_separator: {brief(sign)} to split such "
                f"fields, or label_separator: {'; or |' if usual.pattern else ONE_LABEL} to keep them"
            )
    return Separator(USUAL, decided[0].note if decided else "")


def _named(sign: str) -> str:
    return NAMES.get(sign, f"'{sign}'")


def _reading(sign: str, whole: Sequence[str], known: Collection[str]) -> str:
    """Whether a sign separates labels ("separator"), belongs to names ("names") or may do both ("doubtful").

    whole: the distinct fields.
    """
    split = Separator(re.escape(sign))
    parts = {name: split.split(name) for name in whole}
    multiple = [parts[name] for name in whole if sign in name and len(parts[name]) > 1]
    if not multiple:
        return "names"
    if known:
        if all(part in known or part.isdecimal() for name in whole for part in parts[name]):
            return "separator"
        is_known = {name in known for name in whole if sign in name}
        return "doubtful" if is_known == {False} and any(p in known for names in multiple for p in names) else "names"
    inner = {part for names in multiple for part in names}
    if all(part.isdecimal() for part in inner):
        return "separator"  # no label is called 2,27
    count = Counter(part for names in parts.values() for part in set(names))
    alone = {name for name in whole if sign not in name}
    if all(count[part] > 1 for part in inner):  # as in upper arm, lower arm, upper leg, lower leg too
        return "separator" if sign in STRICT or 2 * len(inner & alone) > len(inner) else "doubtful"
    seldom = sum(count[part] == 1 for part in inner)
    is_name = sign in LOOSE and not inner & alone and 2 * seldom > len(inner)
    return "names" if is_name else "doubtful"
