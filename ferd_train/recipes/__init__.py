"""Recipes are functions: each returns a full configuration and says what it costs and gives."""

from ferd_train.recipes.registry import STUDENT_RECIPES as STUDENT_RECIPES
from ferd_train.recipes.registry import TEACHER_RECIPES as TEACHER_RECIPES
from ferd_train.recipes.registry import find_student_recipe as find_student_recipe
from ferd_train.recipes.registry import find_teacher_recipe as find_teacher_recipe
from ferd_train.recipes.registry import made_for as made_for
from ferd_train.recipes.registry import relatives as relatives
from ferd_train.recipes.registry import summary as summary
