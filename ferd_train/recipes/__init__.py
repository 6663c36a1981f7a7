"""Recipes are functions: each returns a full configuration and says what it costs and gives."""

from ferd_train.recipes.registry import (
    STUDENT_RECIPES,
    TEACHER_RECIPES,
    find_student_recipe,
    find_teacher_recipe,
    made_for,
    relatives,
    summary,
)

__all__ = [
    "STUDENT_RECIPES",
    "TEACHER_RECIPES",
    "find_student_recipe",
    "find_teacher_recipe",
    "made_for",
    "relatives",
    "summary",
]
