"""The model registry: runs, versions and aliases in MLflow. The only room that talks to MLflow."""

from sgcldff.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, TRAINED_ON, Registry, Version

__all__ = ["CHALLENGER", "CHAMPION", "PREVIOUS", "TRAINED_ON", "Registry", "Version"]
