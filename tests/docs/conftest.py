"""What the tests of the documents share."""

from tests.train.conftest import teacher_file

__all__ = ["teacher_file"]
