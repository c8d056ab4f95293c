"""Where files are kept."""

from tasks.workspace import Workspace


def test_relative_folders_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Workspace("lab") == Workspace(str(tmp_path / "lab"))
    assert Workspace("lab").catalog == tmp_path / "lab" / "catalog"


def test_the_home_folder_may_be_named_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workspace("~/lab") == Workspace(str(tmp_path / "lab"))


def test_a_server_takes_the_place_of_the_workspaces_own_registry(tmp_path, monkeypatch):
    assert Workspace(str(tmp_path)).tracking_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert Workspace(str(tmp_path)).tracking_uri == "http://127.0.0.1:5000"


def test_folders_of_different_content_differ(tmp_path):
    place = Workspace(str(tmp_path))
    assert len({place.training("a"), place.training("b"), place.evaluation("a"), place.evaluation("b")}) == 4
