import pytest

from sgcldff.core.errors import InputError
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.counting.reference_counts import ReferenceTable, share_of
from sgcldff.slides.patient import Patient, Sex

LONG = """slide_id,reader,label,count,age,sex
a,Bela,neutrophil,60,40,f
a,Bela,lymphocyte,40,,
a,Anna,bands,30,,
a,Anna,segs,80,,
a,Anna,NRBC,5,,
a,Anna,blast,90,,
"""


def test_both_forms_of_the_table_are_read(tmp_path):
    (tmp_path / "long.csv").write_text(LONG.replace("segs", "neut"))
    (one,) = ReferenceTable.read(tmp_path / "long.csv").counts(FIVE_TYPES)
    assert (one.readers, one.patient) == (("Anna", "Bela"), Patient(age=40, sex=Sex.FEMALE))
    assert one.counts[0] == {"neutrophil": 110, "erythroblast": 5, "blast": 90}
    assert share_of(one.pooled, "neutrophil") == 170 / 300, "blasts belong to the denominator, nucleated red cells not"
    assert share_of(one.pooled, "erythroblast") == 5 / 300
    (tmp_path / "wide.csv").write_text("slide_id,reader,Neut,Mono\na,x,150,50\na,y,160,\n")
    (wide,) = ReferenceTable.read(tmp_path / "wide.csv").counts(FIVE_TYPES)
    assert wide.counts == ({"neutrophil": 150, "monocyte": 50}, {"neutrophil": 160, "monocyte": 0})


def test_a_broad_type_holds_its_subtypes():
    assert share_of({"band neutrophil": 1, "segmented neutrophil": 2, "monocyte": 1}, "neutrophil") == 0.75


HEAD = "slide_id,reader,label,count\n"
WRONG = {
    "slide_id,label,count\na,neut,3\n": r"counts\.csv: lacks column reader",
    HEAD: "holds no count: give one row per slide and reader",
    HEAD + "a,x,neut,3\na,,neut,3\n": r"counts\.csv, row 2: reader is empty: fill it",
    HEAD + "a,x,neut,3\n": r"counts\.csv, slide 'a': counted by 1 \(x\): give the counts of two readers",
    HEAD + "a,x,neut,3\na,y,neut,4\na,z,neut,4\n": r"slide 'a': counted by 3 \(x, y, z\)",
    HEAD + "a,x,neut,3\na,y,neut,many\n": r"counts\.csv, row 2 \(slide 'a'\): neut is 'many'; give a whole number",
    HEAD + "a,x,neut,3\na,y,martian,4\n": r"row 2 \(slide 'a'\): type 'martian' is in no class",
    HEAD + "a,x,neut,3\na,x,neut,4\na,y,neut,4\n": r"row 2 .*'neut' was counted in an earlier row too",
    HEAD + "a,x,neut,3\na,y,neut,0\n": "slide 'a': y counted no white cell",
    "slide_id,reader,age,neut\na,x,old,3\na,y,,3\n": r"row 1: age .* is 'old'; give a number",
    "slide_id,specimen,reader,neut\na,s,x,3\na,t,y,3\n": r"row 2: slide 'a' is of specimen 't' here, of 's' before",
    "slide_id,reader,age,neut\na,x,5,3\na,y,6,3\n": "slide 'a': its rows give different ages or sexes",
}


def test_slides_of_one_specimen_are_added_up(tmp_path):
    """As H20-A2 has it: each reader counts one of two slides of a specimen."""
    (tmp_path / "counts.csv").write_text(
        "slide_id,specimen,reader,neut,mono\na,s,x,150,50\nb,s,y,160,40\nc,,x,9,1\nc,,y,8,2\n"
    )
    both, alone = ReferenceTable.read(tmp_path / "counts.csv").counts(FIVE_TYPES)
    assert (both.specimen, both.slides, both.readers) == ("s", ("a", "b"), ("x", "y"))
    assert both.counts == ({"neutrophil": 150, "monocyte": 50}, {"neutrophil": 160, "monocyte": 40})
    assert (alone.specimen, alone.slides) == ("c", ("c",))


@pytest.mark.parametrize("text", WRONG)
def test_a_table_that_cannot_be_used_is_refused_with_row_and_remedy(tmp_path, text):
    (tmp_path / "counts.csv").write_text(text)
    with pytest.raises(InputError, match=WRONG[text]):
        ReferenceTable.read(tmp_path / "counts.csv").counts(FIVE_TYPES)
