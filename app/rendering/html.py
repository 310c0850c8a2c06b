"""HTML pages for people, in the explorer's style: the frame of all, and the page of an error."""

from html import escape

from app.errors import ServiceError


def page(title: str, body: str, root: str) -> str:
    """A whole page in the explorer's style.

    Args:
        title: Plain text.
        body: HTML.
        root: Path under which clients find the service.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)} — Genserve</title>\n"
        f'<link rel="icon" href="{root}/static/icon.png">\n'
        f'<link rel="stylesheet" href="{root}/static/page.css">\n</head>\n<body class="document">\n'
        f'<nav aria-label="Service"><a class="brand" href="{root}/">← Genserve</a> '
        f'<a href="{root}/models">Models</a> <a href="{root}/problems">Problems</a> '
        f'<a href="{root}/docs">API</a></nav>\n'
        f"<main>\n<h1>{escape(title)}</h1>\n{body}</main>\n</body>\n</html>\n"
    )


def error_page(error: ServiceError, request_id: str, root: str) -> str:
    """What a browser shows of an error: the same as the problem details, in words.

    Args:
        error: What is wrong.
        request_id: Finds the request in the log.
        root: Path under which clients find the service.
    """
    parts = [
        f'<p class="status">{error.status}</p>\n',
        f'<p class="lead">{escape(error.detail)}</p>\n',
    ]
    if len(error.errors) > 1:
        items = "".join(
            f"<li><code>{escape(str(each.get('pointer', '')))}</code> "
            f"{escape(str(each.get('detail', '')))}</li>\n"
            for each in error.errors
        )
        parts.append(f"<ul>\n{items}</ul>\n")
    if error.retry_after_s is not None:
        parts.append(f"<p>Try again in {error.retry_after_s} s.</p>\n")
    parts.append(
        f'<p><a href="{root}/problems/{error.slug}">What this means</a> · '
        f'<a href="{root}/">Back to the pictures</a></p>\n'
        f'<p class="hint">Request {escape(request_id)}</p>\n'
    )
    return page(error.title, "".join(parts), root)
