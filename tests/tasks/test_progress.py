"""The bar in the terminal."""

from tasks.progress import bar


def test_progress_is_shown_on_standard_error(capsys):
    with bar("priors") as progress:
        progress(1, 3)
        progress(3, 3)
    shown = capsys.readouterr()
    assert "priors" in shown.err
    assert "3/3" in shown.err
    assert shown.out == ""


def test_where_nothing_was_to_do_no_bar_is_shown(capsys):
    with bar("priors"):
        pass
    assert "priors" not in capsys.readouterr().err
