"""GET /problems: the kinds of errors, as JSON or as pages."""

from typing import Any

from fastapi import Request

from app.api import pages
from app.api.common import document
from app.errors import PROBLEMS, NotFoundError, ServiceError, shown
from app.rendering.schemas import ProblemKind


async def list_problems(request: Request) -> Any:
    """Every kind of error, its status and what it means: JSON, or a page."""
    found = {slug: _about(error) for slug, error in PROBLEMS.items()}
    return document(request, found, lambda _: pages.problems_page(PROBLEMS))


async def get_problem(request: Request, slug: str) -> Any:
    """One kind of error, where the ``type`` of an error leads: JSON, or a page."""
    if slug not in PROBLEMS:
        raise NotFoundError(f"no problem is called {shown(slug)}; GET /problems lists them")
    error = PROBLEMS[slug]
    return document(request, _about(error), lambda _: pages.problem_page(error))


def _about(error: type[ServiceError]) -> ProblemKind:
    return ProblemKind(
        status=error.status, title=error.title, about=error.about, example=error.example
    )
