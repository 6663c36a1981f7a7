"""Data sets: a name, or a path of the user's, becomes one array of labelled images."""

from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.datasets.registry import dataset_info, list_datasets, load_dataset

__all__ = ["LabelledImages", "dataset_info", "list_datasets", "load_dataset"]
