"""VOC xml of one's own, one file per image: every name of an object is a label."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

from semilearn_bbam.data.dataset import DataError
from semilearn_bbam.data.problems import SHOWN, describe
from semilearn_bbam.data.readers.entries import Entries
from semilearn_bbam.data.readers.forms.files import (
    Collector,
    ImageFinder,
    images_below,
    in_order,
    is_image,
    part_of,
    shown,
    subfolders,
)
from semilearn_bbam.data.readers.forms.form import Form
from semilearn_bbam.data.readers.tables import read_text
from semilearn_bbam.errors import first_few

XML_FOLDERS = ("Annotations", "annotations", "xml", "xmls", "labels")
IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
CURE = "export it again, or fix the files"


@dataclass
class Objects:
    """The file that an xml names, and its labels: `plain` of an instance that is not difficult, `all` of any."""

    file_name: str
    plain: set[str] = field(default_factory=set)
    all: set[str] = field(default_factory=set)
    readable: bool = True


def xml_folders(path: Path) -> list[Path]:
    """Folders with .xml files at or below a folder, in the layouts of VOC and of exporters."""
    if not path.is_dir():
        return []
    tops = [path, *path.glob("VOC*"), *path.glob("VOCdevkit/VOC*"), *(f for f in subfolders(path) if part_of(f.name))]
    folders = [folder for top in tops for folder in (top, *(top / name for name in XML_FOLDERS)) if _has_xml(folder)]
    unique = {folder.resolve(): folder for folder in reversed(folders)}  # where case does not count, two names are one
    return [folder for folder in dict.fromkeys(folders) if unique[folder.resolve()] is folder]


def _has_xml(folder: Path) -> bool:
    return folder.is_dir() and any(_is_annotation(file) for file in sorted(folder.glob("*.xml"))[:SHOWN])


def _is_annotation(file: Path) -> bool:
    try:
        return b"<annotation" in file.read_bytes()[:4096]
    except OSError:
        return False


def matches(path: Path) -> bool:
    return bool(xml_folders(path))


def read(root: Path, path: Path, part: str, settings: Namespace) -> Entries:
    """Images with the names of the objects in their xml, and images without an xml, which have no label.

    Images are next to the xml or in `JPEGImages`, and are called as the xml or as it says. Lists of `ImageSets/Main`,
    and folders train, valid and test, are parts. A label that an image has by difficult instances only counts as
    `voc_difficult` says. An xml that cannot be read is a problem. DataError if no object has a name.
    """
    folders = xml_folders(path)
    parts = [part_of(folder.name) or part_of(folder.parent.name) if len(folders) > 1 else "" for folder in folders]
    if len(folders) > 1 and (not all(parts) or len(set(parts)) < len(folders)):
        names = first_few([shown(root, folder) for folder in folders], SHOWN)
        raise DataError(
            f"{path} has xml files in several folders that are not train, valid and test: {names}; name one"
        )
    collector = Collector(root, part)
    notes: list[str] = []
    labels: set[str] = set()
    for folder, folder_part in zip(folders, parts, strict=True):
        objects_of = _read_folder(folder, collector)
        labels |= {name for objects in objects_of.values() for name in objects.all}
        _add_folder(folder, folder_part, objects_of, settings.voc_difficult, collector, notes)
    if not labels:
        reason = "".join(f" ({line})" for line in describe(collector.entries.problems))
        raise DataError(f"no xml file in {path} names an object{reason}; {CURE}")
    return collector.finish(path, in_order(labels), notes, CURE)


def _read_folder(folder: Path, collector: Collector) -> dict[str, Objects]:
    """The objects of every xml by its name without .xml; none for one that cannot be read, which is a problem."""
    objects_of = {}
    for file in sorted(folder.glob("*.xml")):
        try:
            objects_of[file.stem] = parse(file)
        except ValueError as error:
            collector.problem(shown(collector.root, file), "row", str(error))
            objects_of[file.stem] = Objects("", readable=False)
    return objects_of


def _add_folder(
    folder: Path,
    part: str,
    objects_of: dict[str, Objects],
    voc_difficult: str,
    collector: Collector,
    notes: list[str],
) -> None:
    images = _images(folder)
    by_name = {(stem, name): image for image in images for stem in ("", image.stem) for name in ("", image.name)}
    finder = ImageFinder([], [folder.parent if folder.name in XML_FOLDERS else folder])
    lists = _lists(folder, notes)
    used: set[Path] = set()
    difficult = 0
    outside = [stem for stem in objects_of if lists and stem not in lists]
    if outside:
        notes.append(f"left out {len(outside)} xml files that are in no list, such as {outside[0]}.xml")
    for stem in lists or objects_of:
        objects = objects_of.get(stem)
        written = PureWindowsPath(objects.file_name if objects else "").name
        # By the name of the xml first: files are renamed without a change inside.
        image = by_name.get((stem, written)) or by_name.get((stem, "")) or by_name.get(("", written or "."))
        used |= {image} if image else set()
        if objects and not objects.readable:
            used |= {image for image in images if image.stem == stem}
            continue
        names = None if objects is None else objects.all if voc_difficult == "positive" else objects.plain
        difficult += len(objects.all - objects.plain) if objects else 0
        labels = sorted(names) if names is not None else None
        if image:
            collector.add(image, labels, lists.get(stem, part))
        else:
            collector.add_named(finder, written or f"{stem}.jpg", labels, lists.get(stem, part))
    for image in images if not lists else ():
        if image not in used:
            collector.add(image, None, part)
    if difficult:
        notes.append(f"{difficult} labels with only difficult instances count as {voc_difficult} (voc_difficult)")
    notes += finder.notes


def parse(file: Path) -> Objects:
    """What an xml says of its image; ValueError with the rest of a sentence if it cannot be read."""
    try:
        annotation = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError, LookupError, ValueError) as error:
        raise ValueError(f"it is no XML: {getattr(error, 'strerror', None) or error}") from error
    if annotation.tag != "annotation":
        raise ValueError(f"it holds <{annotation.tag}>, not <annotation>")
    objects = Objects((annotation.findtext("filename") or "").strip())
    for number, element in enumerate(annotation.iter("object"), start=1):
        name = (element.findtext("name") or "").strip()
        if not name:
            raise ValueError(f"object {number} has no name")
        objects.all.add(name)
        if (element.findtext("difficult") or "").strip() in ("", "0"):
            objects.plain.add(name)
    return objects


def _images(folder: Path) -> list[Path]:
    """The images next to the xml files and in the folders of images next to a folder of xml files."""
    siblings = [file for file in sorted(folder.iterdir()) if is_image(file.name)]
    if siblings and folder.name not in XML_FOLDERS:
        return siblings
    places = {place.resolve(): place for name in IMAGE_FOLDERS if (place := folder.parent / name).is_dir()}
    around = [image for place in places.values() for image in images_below(place)]
    return [*siblings, *around] or [file for file in sorted(folder.parent.iterdir()) if is_image(file.name)]


def _lists(folder: Path, notes: list[str]) -> dict[str, str]:
    """The part of each image that `ImageSets/Main` lists, by the name of its xml without .xml."""
    part_by_stem: dict[str, str] = {}
    main = folder.parent / "ImageSets" / "Main"
    files = [main / f"{name}.txt" for name in ("train", "val", "trainval", "test")]
    files = [file for file in files if file.is_file()]
    for file in files:
        for line in read_text(file).split("\n"):
            words = line.split()
            if not words:
                continue
            earlier = part_by_stem.setdefault(words[0], part_of(file.stem))
            if (earlier == "test") != (file.stem == "test"):
                raise DataError(f"{words[0]} is in {file.name} and in a list of training in {main}; remove one")
    if files:
        notes.append(f"parts are those of {', '.join(f'ImageSets/Main/{file.name}' for file in files)}")
    return part_by_stem


VOC = Form("VOC xml", matches, read)
