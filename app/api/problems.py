"""GET /problems: the kinds of errors, as JSON or as HTML pages."""

from typing import Any

from fastapi import Request

from app.api import pages
from app.api.common import document_response
from app.errors import PROBLEMS, NotFoundError, ServiceError, shown
from app.rendering.schemas import ProblemKind


async def list_problems(request: Request) -> Any:
    """Every kind of error, its status and its meaning: JSON, or a page."""
    kinds = {slug: _kind(error) for slug, error in PROBLEMS.items()}
    return document_response(request, kinds, lambda _, root: pages.problems_page(PROBLEMS, root))


async def get_problem(request: Request, slug: str) -> Any:
    """One kind of error, at the address in an error's `type`: JSON, or a page."""
    if slug not in PROBLEMS:
        raise NotFoundError(f"there is no problem {shown(slug)}; GET /problems lists them")
    error = PROBLEMS[slug]
    return document_response(request, _kind(error), lambda _, root: pages.problem_page(error, root))


def _kind(error: type[ServiceError]) -> ProblemKind:
    return ProblemKind(
        status=error.status, title=error.title, about=error.about, example=error.example
    )
