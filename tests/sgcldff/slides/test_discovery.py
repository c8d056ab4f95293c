import glob
import os
import string
from contextlib import closing
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgcldff.core.errors import InputError, MissingInputError, SlideError
from sgcldff.core.locations import shown
from sgcldff.slides import open_slide
from sgcldff.slides.content import SUFFIXES
from sgcldff.slides.discovery import SlideEntry, find_slides, natural_key
from sgcldff.slides.ids import distinct_ids, safe_name
from sgcldff.slides.patient import Patient, Sex

TREE = (
    "x10.svs",
    "x2.svs",
    "notes.txt",
    ".hidden.svs",
    ".trash/gone.svs",
    "a/scan.tif",
    "a/b/deep.ndpi",
    "a/b/image.ome.tif",
    "z.zarr/zarr.json",
    "z.zarr/s0/zarr.json",
    "z.zarr/s0/c/0/0.png",
    "old.zarr/.zattrs",
    "old.zarr/0/picture.png",
    "m.mrxs",
    "m/Data0000.dat",
    "m/thumb.jpg",
    "dicom/10.dcm",
    "dicom/9.dcm",
    "out/x2/differential.json",
    "out/x2/labels.ome.zarr/zarr.json",
    "out/x2/overview.png",
    "capitals/A.SVS",
)
SLIDES = (
    "a/b/deep.ndpi",
    "a/b/image.ome.tif",
    "a/scan.tif",
    "capitals/A.SVS",
    "dicom/9.dcm",
    "m.mrxs",
    "old.zarr",
    "x2.svs",
    "x10.svs",
    "z.zarr",
)
"""What is meant by the tree's folder, in natural order. All files are empty: none may be opened."""


def plant(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def tree(tmp_path):
    return plant(tmp_path / "slides", TREE)


def below(root, entries):
    return tuple(os.path.relpath(entry.uri, root) for entry in entries)


def test_a_folder_means_all_slides_below_it_in_natural_order(tree):
    assert below(tree, find_slides([str(tree)])) == SLIDES


def test_the_slides_found_do_not_depend_on_the_order_or_spelling_of_inputs(tree, monkeypatch):
    whole = find_slides([str(tree)])
    monkeypatch.chdir(tree)
    (tree / "a/again.svs").symlink_to(tree / "x2.svs")
    parts = ["x10.svs", "./x2.svs", str(tree / "a"), "**/*.zarr", "a/../m.mrxs", (tree / "dicom").as_uri(), "capit*"]
    assert find_slides(parts[::-1]) == find_slides(parts) == find_slides(parts * 2) == whole
    assert all(Path(entry.uri).is_absolute() for entry in find_slides(parts))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.svs", ("x2.svs", "x10.svs")),
        ("x?.svs", ("x2.svs",)),
        ("x[0-9][0-9].svs", ("x10.svs",)),
        ("**/*.tif", ("a/b/image.ome.tif", "a/scan.tif")),
        ("a/*", ("a/b/deep.ndpi", "a/b/image.ome.tif", "a/scan.tif")),
        ("a/**", ("a/b/deep.ndpi", "a/b/image.ome.tif", "a/scan.tif")),
        ("**/b/*.ndpi", ("a/b/deep.ndpi",)),
        ("*.zarr", ("old.zarr", "z.zarr")),
        ("**/*", SLIDES),
        ("*/*.dcm", ("dicom/9.dcm",)),
    ],
)
def test_patterns(tree, pattern, expected):
    assert below(tree, find_slides([f"{tree}/{pattern}"])) == expected


@pytest.mark.parametrize("pattern", ["*.tif", "**/*.tif", "*/*.tif", "a*/**/s*.tif", "**/b/**/*.tif", "[!c]/*.tif"])
def test_patterns_match_as_in_the_standard_library(tmp_path, pattern):
    names = [f"{folder}{file}.tif" for folder in ("", "a/", "b/", "ab/c/", "a/b/", "a/b/c/") for file in ("s1", "t")]
    plant(tmp_path, names)
    expected = glob.glob(str(tmp_path / pattern), recursive=True)  # noqa: PTH207  an oracle of its own
    assert sorted(entry.uri for entry in find_slides([str(tmp_path / pattern)])) == sorted(expected)


def test_a_file_that_looks_like_a_pattern_and_one_of_any_extension_can_be_named(tmp_path):
    plant(tmp_path, ["scan[1].svs", "scan1.svs", "strange.xyz"])
    assert below(tmp_path, find_slides([f"{tmp_path}/scan[1].svs", f"{tmp_path}/strange.xyz"])) == (
        "scan[1].svs",
        "strange.xyz",
    )


def test_a_link_that_leads_up_does_not_go_round_for_ever(tree):
    for name in ("up", "upper", "a"):
        (tree / "a" / name).symlink_to(tree)
    (tree / "a/self").symlink_to(tree / "a/self")
    (tree / "a/b/other").symlink_to(tree / "dicom")
    (tree / "dicom/back").symlink_to(tree / "a/b")
    assert below(tree, find_slides([str(tree)])) == SLIDES


def test_all_missing_inputs_are_named(tree):
    with pytest.raises(MissingInputError, match=r"(?s)no\.svs.*neither/\*\.tif.*none\.csv") as raised:
        find_slides([str(tree), f"{tree}/no.svs", f"{tree}/neither/*.tif", f"{tree}/none.csv"])
    assert "x2" not in str(raised.value)


def test_the_error_for_no_slides_says_what_was_searched_for(tmp_path):
    plant(tmp_path, ["a.txt", "b/c.doc"])
    with pytest.raises(InputError, match=r"no slide was found among 2 files.*\.ndpi"):
        find_slides([str(tmp_path)])
    with pytest.raises(InputError, match="no slide was named"):
        find_slides([])


def write_list(path, frame):
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")


@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "list.parquet"])
def test_lists_give_scale_and_id(tree, name):
    slides = ["x2.svs", str(tree / "x10.svs"), "a/../z.zarr", "s3://bucket/far.svs"]
    write_list(
        tree / name, pd.DataFrame({"Slide": slides, "mpp": [0.25, None, None, 0.5], "id": [None, "7", None, ""]})
    )
    found = {entry.uri.rpartition("/")[2]: entry for entry in find_slides([str(tree / name), str(tree)], mpp=0.1)}
    assert {name: entry.mpp for name, entry in found.items() if entry.mpp != 0.1} == {"x2.svs": 0.25, "far.svs": 0.5}
    assert [found[name].id for name in ("x2.svs", "x10.svs", "z.zarr", "far.svs")] == ["x2", "7", "z", "far"]
    assert found["far.svs"].uri == "s3://bucket/far.svs"
    assert len(found) == len(SLIDES) + 1


def test_lists_give_blood_count_age_and_sex(tree):
    (tree / "a.csv").write_text("slide,wbc,age,sex\nx2.svs,7.2,0,F\nx10.svs,,40.5,male\n")
    (tree / "b.csv").write_text("slide,wbc,sex\nx2.svs,7.2,\nx10.svs,3,Unknown\n")
    found = {entry.id: entry.patient for entry in find_slides([str(tree / "a.csv"), str(tree / "b.csv")])}
    assert found == {"x2": Patient(7.2, 0.0, Sex.FEMALE), "x10": Patient(3.0, 40.5, Sex.MALE)}


BAD_LISTS = {
    "slide,wbc\nx2.svs,5\nx10.svs,7200\n": r"list\.csv, row 2: wbc \(10\^9/L; 7200 per µL are 7\.2\) is '7200'",
    "slide,wbc\nx2.svs,0\n": r"row 1: wbc .* is '0'; give a number from 0\.01 to 1000",
    "slide,wbc\nx2.svs,inf\n": r"row 1: wbc .* is 'inf'",
    "slide,age\nx2.svs,-1\n": r"row 1: age .* is '-1'; give a number from 0 to 130",
    "slide,sex\nx2.svs,both\n": r"row 1: sex is 'both'; give female, male or nothing",
    "slide,wbc\nx2.svs,5\n./x2.svs,6\n": r"x2\.svs: is given wbc 5\.0 and 6\.0 .*row 1 and .*row 2",
    "slide,mpp\nx2.svs,0.25\nx10.svs,quarter\n": r"list\.csv, row 2: mpp is 'quarter'; give a number from 0.02 to 8",
    "slide,mpp\nx2.svs,-1\n": r"row 1: mpp is '-1'",
    "slide,mpp\nx2.svs,nan\n": r"row 1: mpp is 'nan'",
    "slide,mpp\nx2.svs,0.00025\n": r"row 1: mpp is '0.00025'; give a number from 0.02 to 8",
    "slide,page\nx2.svs,²\n": r"row 1: page is '²'",
    'slide\n"x2\0.svs"\n': r"row 1: contains a NUL",
    "slide,mpp\n,0.25\n": r"row 1: names no slide",
    "file\nx2.svs\n": r"lacks the column slide, has file",
    "slide;mpp\nx2.svs;1\n": r"lacks the column slide, has slide;mpp",
    "": r"list\.csv: not a readable table \(it is empty\)",
    "slide,mpp\na,b.svs,0.25\n": r"list\.csv, row 1: has 3 cells, the header names 2 columns",
    "slide,mpp,MPP\nx2.svs,0.25,0.5\n": r"list\.csv: has several columns mpp",
    "slide,id\nx2.svs,same\nx10.svs,Same\n": r"both given the id",
    "slide,mpp\nx2.svs,0.2\n./x2.svs,0.3\n": r"x2\.svs: is given mpp 0\.2 and 0\.3 .*row 1 and .*row 2",
    "slide\nno.svs\nx2.svs\nneither.svs\n": r"2 slides do not exist.*row 1: .*no\.svs; .*row 3: .*neither\.svs",
    "slide\na\n": r"row 1: .*/a",
}


@pytest.mark.parametrize("text", BAD_LISTS)
def test_errors_in_a_list_are_located(tree, text):
    (tree / "list.csv").write_text(text)
    with pytest.raises(InputError, match=BAD_LISTS[text]):
        find_slides([str(tree / "list.csv")])


def test_a_store_is_listed_like_a_folder(tree):
    store = fsspec.filesystem("memory")
    for name in TREE:
        store.pipe_file(f"/listing/{name}", b"")
    try:
        for text, folder in (("memory://listing", SLIDES), ("memory://listing/**/*.tif", SLIDES[1:3])):
            assert tuple(e.uri.removeprefix("memory://listing/") for e in find_slides([text])) == folder
        store.pipe_file("/listing/list.csv", b"slide,mpp\na/scan.tif,0.3\n")
        (entry,) = find_slides(["memory://listing/list.csv"])
        assert (entry.uri, entry.mpp, entry.id) == ("memory://listing/a/scan.tif", 0.3, "scan")
        with pytest.raises(MissingInputError, match="memory://listing/none"):
            find_slides(["memory://listing/none"])
    finally:
        store.rm("/listing", recursive=True)


TRAILS = st.lists(st.text(st.sampled_from("aAbé.-x1/") | st.characters(), max_size=4), min_size=1, max_size=4)
FILES = st.tuples(TRAILS, st.sampled_from([".svs", ".tif", ".ome.tif", ".SVS", ""])).map(
    lambda drawn: "/" + "/".join([*drawn[0][:-1], drawn[0][-1] + drawn[1]])
)
BATCHES = st.lists(FILES, min_size=1, max_size=12, unique=True)


def trails(paths):
    return {path: tuple(path.split("/")[1:]) for path in paths}


def safe(name):
    hidden_or_up = name.startswith((".", "-", "~"))
    return name == Path(name).name and name.isprintable() and not hidden_or_up and 0 < len(name.encode()) <= 120


@given(BATCHES, st.randoms(use_true_random=False))
def test_ids_are_distinct_safe_and_do_not_depend_on_order(paths, random):
    ids = distinct_ids(trails(paths), {})
    assert ids.keys() == set(paths)
    assert len({name.casefold() for name in ids.values()}) == len(paths)
    assert all(map(safe, ids.values()))
    random.shuffle(paths)
    assert distinct_ids(trails(paths), {}) == ids


@given(BATCHES, st.text(max_size=300))
def test_a_given_id_is_kept_and_the_others_change(paths, name):
    ids = distinct_ids(trails(paths), {paths[0]: name})
    assert ids[paths[0]] == safe_name(name)
    assert safe(safe_name(name))
    assert len({one.casefold() for one in ids.values()}) == len(paths)


@given(st.lists(st.text(string.ascii_lowercase[:3], min_size=1, max_size=2), min_size=2, max_size=8, unique=True))
def test_a_slide_that_joins_changes_the_ids_of_those_it_collides_with_only(names):
    batch = [f"/folder/{name}.svs" for name in names]
    before = distinct_ids(trails(batch), {})
    after = distinct_ids(trails([*batch, f"/other/{names[0]}.svs"]), {})
    assert {path for path in batch if before[path] != after[path]} == {batch[0]}
    assert {after[batch[0]], after[f"/other/{names[0]}.svs"]} == {f"folder-{names[0]}", f"other-{names[0]}"}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/x.svs", "b/x.svs"], ["a-x", "b-x"]),
        (["a/x.svs", "a/y.svs"], ["x", "y"]),
        (["1/a/x.svs", "2/a/x.svs", "b/x.svs"], ["1-a-x", "2-a-x", "b-x"]),
        (["a/x.svs", "a/x.tif"], ["x.svs", "x.tif"]),
        (["a/x.svs", "b/x.svs", "c/a-x.svs"], None),
        (["a/x.svs", "b/X.svs"], ["a-x", "b-X"]),
    ],
)
def test_ids_of_slides_of_the_same_name(paths, expected):
    ids = distinct_ids(trails([f"/{path}" for path in paths]), {})
    if expected:
        assert [ids[f"/{path}"] for path in paths] == expected
    else:
        assert ids["/c/a-x.svs"] == "a-x"
        assert len(set(ids.values())) == 3


@given(st.lists(st.integers(0, 10**25).map(str), unique=True, min_size=2))
def test_numbers_are_ordered_by_their_value(numbers):
    assert sorted(numbers, key=natural_key) == sorted(numbers, key=int)


def test_all_extensions_are_lower_case():
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)


HOSTILE = [
    "../../x",
    "/etc/x",
    "..",
    ".",
    "a/../../../b",
    "..\\..\\b",
    "~/x",
    "C:\\x",
    "a\u202ex",
    "batch.html",
    "y" * 400,
]


def test_ids_of_a_list_cannot_leave_the_folder_of_the_results(tmp_path):
    for number in range(len(HOSTILE)):
        (tmp_path / f"{number}.svs").touch()
    rows = [f'{number}.svs,"{name}"' for number, name in enumerate(HOSTILE)]
    (tmp_path / "slides.csv").write_text("\n".join(["slide,id", *rows]))
    out = tmp_path / "out"
    places = [out / entry.id for entry in find_slides([str(tmp_path / "slides.csv")])]
    assert len(places) == len(HOSTILE)
    for place in places:
        assert place.resolve().parent == out.resolve()
        assert place.name not in ("batch.html", "batch.parquet")
        place.mkdir(parents=True)


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-x", "@sum"])
def test_an_id_starts_no_formula_in_a_spreadsheet(name):
    assert safe_name(name) == f"_{name[1:]}"


def test_a_name_that_is_not_utf_8_is_read_and_shown_with_replacements(tmp_path):
    png = cv2.imencode(".png", np.full((64, 64, 3), (120, 60, 160), np.uint8))[1].tobytes()
    for name in (b"m\xfcller.png", b"plain.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(png)
    odd, _ = sorted(find_slides([str(tmp_path)], mpp=0.25), key=lambda entry: entry.id)
    assert (odd.id, odd.shown_name) == ("m_ller", "m?ller.png")
    with closing(open_slide(odd.uri, odd.mpp, odd.id)) as slide:
        assert slide.ref.shape == (64, 64)
    Path(odd.uri).write_bytes(b"torn")
    with pytest.raises(SlideError) as error:
        open_slide(odd.uri, odd.mpp)
    assert odd.without_place(str(error.value)).startswith("m?ller.png: no reader opens it")


def test_a_name_with_a_zero_byte_is_refused_or_made_safe():
    assert safe(safe_name("a\0/../b"))


def test_ids_of_a_list_that_differ_by_capitals_only_are_refused(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.svs").touch()
    (tmp_path / "slides.csv").write_text("slide,id\na.svs,Case\nb.svs,case\n")
    with pytest.raises(InputError, match="both given the id"):
        find_slides([str(tmp_path / "slides.csv")])


@pytest.mark.parametrize("place", ["/data/DOE/slide-7.svs", "s3://key:secret@bucket/DOE/slide-7.svs", "/slide-7.svs"])
def test_messages_about_a_slide_omit_its_folder(place):
    message = f"{place}: tile 7 is damaged; {shown(place)}"
    assert SlideEntry(place, None, "slide-7").without_place(message) == "slide-7.svs: tile 7 is damaged; slide-7.svs"
    named = SlideEntry(place, None, "anon", named=True)
    assert named.without_place(message) == "anon: tile 7 is damaged; anon"
    assert (named.shown_name, SlideEntry(place, None, "slide-7").shown_name) == ("anon", "slide-7.svs")
