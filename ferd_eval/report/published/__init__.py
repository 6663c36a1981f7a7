"""Everything published below one folder, in one page that anybody can make again."""

from ferd_eval.report.published.index import Hub, hub
from ferd_eval.report.published.search import PUBLISHED, Found, search
from ferd_eval.report.published.write import contents, stale, write_site

__all__ = ["PUBLISHED", "Found", "Hub", "contents", "hub", "search", "stale", "write_site"]
