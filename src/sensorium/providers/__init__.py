"""Models that others run: behind an HTTP service, with the interface of a model of one's own."""

from .errors import ServiceError
from .patience import Patience
from .remote import Remote, is_remote, remote

__all__ = ["Patience", "Remote", "ServiceError", "is_remote", "remote"]
