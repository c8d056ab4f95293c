from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.records import MaskCode, Sample
from sgcldff.data.adapters import ADAPTERS, Rejected, Source, adapter, detect

VOC = """<annotation><object><name>RBC</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>
</object><object><name>WBC</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>50</xmax><ymax>70</ymax></bndbox></object>
</annotation>"""


def touch(*paths: Path):
    """Make image files; adapters do not open them."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def make_bccd(root: Path) -> Path:
    touch(*(root / f"BCCD/JPEGImages/BloodImage_0000{i}.jpg" for i in range(5)))
    touch(root / "masks/BloodImage_Mask_00001.png")
    write(root / "BCCD/Annotations/BloodImage_00001.xml", VOC)
    write(root / "BCCD/Annotations/BloodImage_00004.xml", "<annotation><object>")
    write(root / "labels.csv", ',Image,Category\n,0,NEUTROPHIL\n,1,EOSINOPHIL\n,2,"NEUTROPHIL, EOSINOPHIL"\n,3,\n')
    return root


def make_zheng(root: Path, part: int) -> Path:
    for i in range(1, 4):
        touch(root / f"Dataset {part}/00{i}.bmp", root / f"Dataset {part}/00{i}.png")
    column = "class label" if part == 1 else "class"
    (root / f"Class Labels of Dataset {part}.csv").write_bytes(f"image ID,{column}\r\n1,2\r\n2,\r\n3,9\r\n".encode())
    return root


def make_lisc(root: Path) -> Path:
    touch(root / "Main Dataset/Baso/1.bmp", root / "Main Dataset/neut/1.bmp", root / "Main Dataset/Mixt/2.bmp")
    touch(root / "Ground Truth Segmentation/baso/areaforexpert1/1_expert.bmp")
    touch(root / "Ground Truth Segmentation/neut/areaforexpert1/1_Expert.bmp")
    return root


def make_all_idb(root: Path) -> Path:
    touch(root / "ALL_IDB1/im/Im001_1.jpg", root / "ALL_IDB1/im/Im002_0.jpg", root / "ALL_IDB1/im/Im003_1.jpg")
    write(root / "ALL_IDB1/xyc/Im001_1.xyc", "12\t34\n 56 78\n\n")
    write(root / "ALL_IDB1/xyc/Im003_1.xyc", "12 34 56\n")
    touch(root / "ALL_IDB2/img/Im001_1.tif", root / "ALL_IDB2/img/Im131_0.tif", root / "ALL_IDB2/img/cell.tif")
    touch(root / "ALL_IDB2/mask/Im001_1.png")
    return root


def make_pbc(root: Path) -> Path:
    names = "basophil/BA_1 ig/MMY_1 ig/IG_1 neutrophil/BNE_1 neutrophil/SNE_2 neutrophil/NEUTROPHIL_3 neutrophil/.DS_1"
    touch(*(root / f"{name}.jpg" for name in f"{names} erythroblast/ERB_1 platelet/PLATELET_1 monocyte/BNE_9".split()))
    return root


def make_raabin(root: Path) -> Path:
    touch(root / "Train/Basophil/20190527_111252_0.jpg", root / "Train/Neutrophil/95-8-10-1_114_1.jpg")
    touch(root / "TestA/Monocyte/95-8-10-1_7_2.jpg", root / "TestA/Monocyte/monocyte.jpg")
    return root


def make_krd(root: Path) -> Path:
    base = root / "KRD-WBC dataset"
    touch(*(base / f"Dataset/image/image{i}.jpg" for i in (1, 2, 3)), base / "Dataset/mask/mask1.jpg")
    table = "\ufeffImage ID,Categoriy\nImage1,Lymphocyte\nImaeg2,Neutrophil\nImage77,Monocyte\n"
    (base / "class labels.csv").write_text(table, encoding="utf-8")
    return root


def scanned(source: Source) -> tuple[dict[str, Sample], list[Rejected]]:
    found = list(source.scan())
    return {s.id: s for s in found if isinstance(s, Sample)}, [r for r in found if isinstance(r, Rejected)]


def test_every_adapter_has_a_description_and_a_source():
    expected = {"bccd", "lisc", "all_idb1", "all_idb2", "jtsc", "cellavision", "pbc", "folder", "table", "reviewed"}
    assert set(ADAPTERS) == expected | {"raabin", "krd_wbc"}
    for name, item in ADAPTERS.items():
        assert item.name == name
        assert all((item.title, item.licence, item.instructions))
        assert item.url.startswith("http") or name in ("folder", "table", "reviewed")
        assert item.mpp is None or 0.05 < item.mpp < 0.5
        assert item.download is None or item.licence in ("MIT", "CC BY 4.0")


def test_an_unknown_adapter_names_the_known_ones():
    with pytest.raises(InputError, match=r"'kaggle' is unknown.*bccd.*table"):
        adapter("kaggle")


def test_bccd(tmp_path):
    samples, rejected = scanned(Source("bccd", str(make_bccd(tmp_path))))
    labels = {name[-1]: sample.label for name, sample in samples.items()}
    assert labels == {"0": "neutrophil", "1": "eosinophil", "2": None, "3": None}
    full = samples["bccd/BloodImage_00001"]
    assert full.boxes == ((10, 20, 50, 70),)
    assert full.mask == str(tmp_path / "masks/BloodImage_Mask_00001.png")
    assert full.mask_code == MaskCode(64, 200)
    assert samples["bccd/BloodImage_00000"].boxes is None
    assert samples["bccd/BloodImage_00000"].mask_code is None
    assert "BloodImage_00004.xml" in rejected[0].reason


def test_bccd_is_the_same_whether_its_folder_or_the_one_around_is_named(tmp_path):
    root = make_bccd(tmp_path)
    inner, _ = scanned(Source("bccd", str(root / "BCCD")))
    assert inner == scanned(Source("bccd", str(root)))[0]


def test_bccd_as_published_without_masks_and_types(tmp_path):
    nested = (make_bccd(tmp_path / "downloaded") / "BCCD").rename(tmp_path / "BCCD")
    samples, _ = scanned(Source("bccd", str(nested)))
    assert len(samples) == 4
    assert {sample.label for sample in samples.values()} == {None}


def test_bccd_reads_types_and_masks_beside_the_fields(tmp_path):
    root = make_bccd(tmp_path)
    (root / "labels.csv").rename(root / "BCCD/labels.csv")
    (root / "masks").rename(root / "BCCD/masks")
    for folder in (root, root / "BCCD"):
        samples, _ = scanned(Source("bccd", str(folder)))
        assert samples["bccd/BloodImage_00001"].label == "eosinophil"
        assert samples["bccd/BloodImage_00001"].mask


def test_a_labels_table_without_its_columns_names_them(tmp_path):
    write(make_bccd(tmp_path) / "labels.csv", "file,type\n0,NEUTROPHIL\n")
    with pytest.raises(InputError, match=r"labels\.csv: lacks column image, category.*found file, type"):
        scanned(Source("bccd", str(tmp_path)))


@pytest.mark.parametrize(("part", "name"), [(1, "jtsc"), (2, "cellavision")])
def test_zheng(tmp_path, part, name):
    samples, rejected = scanned(Source(name, str(make_zheng(tmp_path, part))))
    assert {key: sample.label for key, sample in samples.items()} == {f"{name}/001": "lymphocyte", f"{name}/002": None}
    assert samples[f"{name}/001"].mask.endswith("001.png")
    assert "class '9'" in rejected[0].reason


def test_lisc_distinguishes_types_with_the_same_numbers(tmp_path):
    samples, _ = scanned(Source("lisc", str(make_lisc(tmp_path))))
    labels = {name: sample.label for name, sample in samples.items()}
    assert labels == {"lisc/baso/1": "basophil", "lisc/neut/1": "neutrophil", "lisc/mixt/2": None}
    assert samples["lisc/baso/1"].mask.endswith("baso/areaforexpert1/1_expert.bmp")
    assert samples["lisc/neut/1"].mask_code == MaskCode(1, None)
    assert samples["lisc/mixt/2"].mask is None


def test_lisc_as_published_whatever_the_case_of_its_folders(tmp_path):
    types = {"Baso": "basophil", "eosi": "eosinophil", "LYMP": "lymphocyte", "Mono": "monocyte", "neut": "neutrophil"}
    for name in (*types, "mixt"):
        touch(tmp_path / "main dataset" / name / "12.bmp")
        place = tmp_path / "Ground truth segmentation" / name.swapcase() / "AreaForExpert1"
        touch(place / "12_expert.bmp", place.with_name("areaforexpert2") / "12_expert.bmp")
    assert [source.adapter for source in detect(tmp_path)] == ["lisc"]
    samples, rejected = scanned(Source("lisc", str(tmp_path)))
    assert not rejected
    assert {name: s.label for name, s in samples.items()} == {
        **{f"lisc/{name.lower()}/12": label for name, label in types.items()},
        "lisc/mixt/12": None,
    }
    assert {Path(s.mask).parent.name for s in samples.values()} == {"AreaForExpert1"}


def test_all_idb1_is_read_whatever_the_case_of_its_names(tmp_path):
    touch(tmp_path / "IM/im001_1.JPG")
    write(tmp_path / "Xyc/Im001_1.XYC", "12\t34\r\n")
    assert [source.adapter for source in detect(tmp_path)] == ["all_idb1"]
    samples, _ = scanned(Source("all_idb1", str(tmp_path)))
    assert samples["all_idb1/im001_1"].boxes == ((12, 34, 12, 34),)


def test_all_idb1_points_are_blasts_only(tmp_path):
    samples, rejected = scanned(Source("all_idb1", str(make_all_idb(tmp_path) / "ALL_IDB1")))
    assert samples["all_idb1/Im001_1"].boxes == ((12, 34, 12, 34), (56, 78, 56, 78))
    assert samples["all_idb1/Im001_1"].label == "blast"
    assert samples["all_idb1/Im002_0"].boxes is None
    assert samples["all_idb1/Im002_0"].label == "non-blast"
    assert "Im003_1.xyc" in rejected[0].reason


def test_all_idb2(tmp_path):
    samples, rejected = scanned(Source("all_idb2", str(make_all_idb(tmp_path) / "ALL_IDB2")))
    assert {name: (s.label, bool(s.mask)) for name, s in samples.items()} == {
        "all_idb2/Im001_1": ("blast", True),
        "all_idb2/Im131_0": ("non-blast", False),
    }
    assert "cell.tif" in rejected[0].reason


def test_pbc_and_class_folders(tmp_path):
    root = make_pbc(tmp_path / "my lab")
    samples, _ = scanned(Source("pbc", str(root)))
    assert {name: s.label for name, s in samples.items()} == {
        "pbc/basophil/BA_1": "basophil",
        "pbc/erythroblast/ERB_1": "erythroblast",
        "pbc/ig/IG_1": "immature granulocyte",
        "pbc/ig/MMY_1": "metamyelocyte",
        "pbc/monocyte/BNE_9": "monocyte",
        "pbc/neutrophil/BNE_1": "band neutrophil",
        "pbc/neutrophil/NEUTROPHIL_3": "neutrophil",
        "pbc/neutrophil/SNE_2": "segmented neutrophil",
        "pbc/platelet/PLATELET_1": "platelet",
    }
    own, _ = scanned(Source("folder", str(root), mpp=0.11))
    assert set(own) == {name.replace("pbc", "my lab", 1) for name in samples}
    assert {own[f"my lab/{name}"].label for name in ("neutrophil/BNE_1", "ig/MMY_1")} == {
        "neutrophil",
        "immature granulocyte",
    }
    assert {(s.source, s.mpp) for s in own.values()} == {("my lab", 0.11)}


@pytest.mark.parametrize("part", ["", "Train"])
def test_raabin_groups_cells_by_their_slide(tmp_path, part):
    samples, rejected = scanned(Source("raabin", str(make_raabin(tmp_path) / part)))
    found = {name: (s.label, s.group) for name, s in samples.items()}
    test_part = {"raabin/monocyte/95-8-10-1_7_2": ("monocyte", "raabin/95-8-10-1")}
    assert found == {
        "raabin/basophil/20190527_111252_0": ("basophil", "raabin/20190527"),
        "raabin/neutrophil/95-8-10-1_114_1": ("neutrophil", "raabin/95-8-10-1"),
        **({} if part else test_part),
    }
    assert [Path(item.image).name for item in rejected] == ([] if part else ["monocyte.jpg"])


@pytest.mark.parametrize("part", ["", "KRD-WBC dataset"])
def test_krd_wbc_has_entire_cells_and_tolerates_misspelt_rows(tmp_path, part):
    samples, _ = scanned(Source("krd_wbc", str(make_krd(tmp_path) / part)))
    labels = {name: s.label for name, s in samples.items()}
    assert labels == {"krd_wbc/image1": "lymphocyte", "krd_wbc/image2": "neutrophil", "krd_wbc/image3": None}
    assert samples["krd_wbc/image1"].mask.endswith("mask1.jpg")
    assert samples["krd_wbc/image1"].mask_code == MaskCode(127, None)
    assert samples["krd_wbc/image2"].mask is None


def test_class_folders_require_the_scale(tmp_path):
    with pytest.raises(InputError, match="give mpp"):
        list(Source("folder", str(make_pbc(tmp_path))).scan())


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_table(tmp_path, suffix):
    touch(tmp_path / "a.png", tmp_path / "sub/b.png")
    frame = pd.DataFrame(
        {
            "Image": ["a.png", "sub/b.png", "", "c.png"],
            "mask": ["m.png", None, None, None],
            "label": ["EOS", "Neutrophils", "mono", None],
            "group": ["patient 1", None, None, None],
            "mpp": [0.1, 0.25, 0.1, None],
            "cytoplasm": [1, None, None, None],
            "nucleus": [2, None, None, None],
        }
    )
    path = tmp_path / f"manifest.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    samples, rejected = scanned(Source("table", str(tmp_path)))
    name = tmp_path.name
    first, second = samples[f"{name}/a"], samples[f"{name}/sub/b"]
    assert (first.label, first.group, first.mpp) == ("eosinophil", f"{name}/patient 1", 0.1)
    assert (first.mask, first.mask_code) == (str(tmp_path / "m.png"), MaskCode(1, 2))
    assert (second.label, second.group, second.mpp, second.mask) == ("neutrophil", f"{name}/sub/b", 0.25, None)
    assert "names no image" in rejected[0].reason
    assert "give mpp" in rejected[1].reason


def test_a_table_needs_only_images_and_a_scale(tmp_path):
    table = write(tmp_path / "cells.csv", "image\na.png\n")
    samples, _ = scanned(Source("table", str(table), mpp=0.2))
    assert samples["cells/a"].mpp == 0.2
    with pytest.raises(InputError, match="give mpp"):
        scanned(Source("table", str(table)))


@pytest.mark.parametrize("text", ["", "picture,label\na.png,neut\n", "\x00\x01"])
def test_a_table_without_its_columns_is_refused(tmp_path, text):
    table = write(tmp_path / "manifest.csv", text)
    with pytest.raises(InputError, match=r"manifest\.csv: (lacks column image|not a readable table)"):
        scanned(Source("table", str(table), mpp=0.2))


def test_detect_finds_all_sets_below_a_folder(tmp_path):
    make_bccd(tmp_path / "downloads/bccd")
    make_zheng(make_zheng(tmp_path / "zheng", 1), 2)
    make_lisc(tmp_path / "LISC Database")
    make_all_idb(tmp_path / "all")
    make_pbc(tmp_path / "PBC_dataset_normal_DIB")
    make_raabin(tmp_path / "Raabin")
    make_krd(tmp_path / "archive")
    touch(tmp_path / "own/x.png")
    write(tmp_path / "own/manifest.csv", "image,mpp,label\nx.png,0.1,neut\n")
    assert {(s.adapter, Path(s.folder).name) for s in detect(tmp_path)} == {
        ("bccd", "bccd"),
        ("jtsc", "zheng"),
        ("cellavision", "zheng"),
        ("lisc", "LISC Database"),
        ("all_idb1", "ALL_IDB1"),
        ("all_idb2", "ALL_IDB2"),
        ("pbc", "PBC_dataset_normal_DIB"),
        ("raabin", "Raabin"),
        ("krd_wbc", "archive"),
        ("table", "own"),
    }


def test_detect_refuses_folders_without_data_sets(tmp_path):
    with pytest.raises(InputError, match="is empty"):
        detect(tmp_path)
    touch(tmp_path / "neutrophil/1.png")
    with pytest.raises(InputError, match=r"no known data set.*folder"):
        detect(tmp_path)
    with pytest.raises(MissingInputError, match="no such folder"):
        detect(tmp_path / "nowhere")


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_an_empty_or_missing_folder_is_refused_with_instructions(tmp_path, name):
    for folder, error in ((tmp_path, InputError), (tmp_path / "nowhere", MissingInputError)):
        with pytest.raises(error) as raised:
            list(Source(name, str(folder), mpp=0.1).scan())
        assert str(folder) in str(raised.value)
        assert ADAPTERS[name].instructions in str(raised.value)


def test_paths_are_absolute_whatever_the_user_names(tmp_path, monkeypatch):
    make_pbc(tmp_path / "pbc")
    monkeypatch.chdir(tmp_path)
    samples, _ = scanned(Source("pbc", "pbc"))
    assert all(Path(sample.image).is_absolute() for sample in samples.values())
